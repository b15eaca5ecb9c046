"""How large maps are made: event maps by flag, default or gadget, others by a gadget's variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ig_py.errors import ObjectError, UsageError
from ig_py.gadget.maps import PERF_EVENT_ARRAY, RINGBUF
from ig_py.gadget.spec import GadgetSpec, MapSpec, VariableSpec
from ig_py.runtime.buffers import (
    DEFAULT_BUFFER_SIZE,
    MAX_BUFFER_SIZE,
    buffer_sizes,
    event_maps,
)

if TYPE_CHECKING:
    from ig_py._core import Object
    from ig_py.gadget.elf import Elf

MAX_MAP_ENTRIES = 1 << 24
"""Most entries that a ``<map>_max_entries`` variable may ask for."""
MAX_NUMBER = 8
"""Bytes of a variable that is a number."""
MAX_ENTRIES_SUFFIX = "_max_entries"
LESS_MEMORY = (
    f"no memory for event maps of {DEFAULT_BUFFER_SIZE >> 20} MiB: they have the size that the"
    " gadget declares, and more events may be lost"
)


class MapSizes:
    """Sizes of the maps of one object.

    Args:
        wanted: Bytes of each event map that the user asks for; None: DEFAULT_BUFFER_SIZE, or
            what the gadget declares where that is more.
        values: The eBPF parameters' bytes, by variable name.
    """

    def __init__(
        self, elf: bytes, spec: GadgetSpec, wanted: int | None, values: Mapping[str, bytes]
    ) -> None:
        self._elf = elf
        self._spec = spec
        self._wanted = wanted
        self._values = values
        self._least = DEFAULT_BUFFER_SIZE
        self._parsed: Elf | None = None
        self.buffers: dict[str, int] = {}
        """Bytes of each event map's buffer, by map, after :meth:`apply`."""

    def apply(self, obj: Object, *, rings: bool) -> None:
        """Size the maps of *obj*, which is not loaded yet.

        Args:
            rings: The kernel has ring buffers; where it has none, tracer maps become perf event
                arrays.

        Raises:
            UsageError: A map's size is out of bounds.
            LimitError: The gadget declares larger event maps than are allowed.
            ObjectError: A size is not a number.
            CoreError: libbpf refuses a size.
        """
        self._plan()
        for declared in event_maps(self._spec):
            if declared.type == RINGBUF:
                self._size_ring(obj, declared, rings=rings)
        for declared in self._spec.maps:
            entries = None
            if declared.name not in self.buffers:
                entries = self._by_variable(declared, MAX_MAP_ENTRIES)
            if entries is not None:
                obj.set_max_entries(declared.name, entries)

    def take_less(self) -> bool:
        """Make event maps no larger than declared; False when they were not larger.

        For a kernel that has no memory for the default size.
        """
        before, self._least = self.buffers, 0
        if self._wanted is not None or not before:
            return False
        self._plan()
        return self.buffers != before

    def _plan(self) -> None:
        rings = [m for m in event_maps(self._spec) if m.type == RINGBUF]
        settled = {m.name: self._by_variable(m, MAX_BUFFER_SIZE) for m in rings}
        self.buffers = buffer_sizes(
            self._spec,
            self._wanted,
            {name: size for name, size in settled.items() if size is not None},
            self._least,
        )

    def _size_ring(self, obj: Object, declared: MapSpec, *, rings: bool) -> None:
        if rings or declared.name not in self._spec.tracer_maps:
            obj.set_max_entries(declared.name, self.buffers[declared.name])
        else:
            obj.set_map_type(declared.name, PERF_EVENT_ARRAY, 4, 4)
            # 0: libbpf takes the number of CPUs.
            obj.set_max_entries(declared.name, 0)

    def _by_variable(self, declared: MapSpec, most: int) -> int | None:
        """What the gadget's variable ``<map>_max_entries`` says; None when there is none."""
        variable = self._spec.variable(declared.name + MAX_ENTRIES_SUFFIX)
        if variable is None:
            return None
        if variable.size > MAX_NUMBER:
            raise ObjectError(
                f'gadget {self._spec.name}: variable "{variable.name}" has {variable.size} bytes: '
                "not a number of entries"
            )
        raw = self._values.get(variable.name) or self._initial(variable)
        entries = int.from_bytes(raw, "little")
        if not 0 < entries <= most:
            raise UsageError(
                f'"{variable.name}" is {entries}: map "{declared.name}" can have 1 to '
                f"{most} entries"
            )
        return entries

    def _initial(self, variable: VariableSpec) -> bytes:
        from ig_py.gadget.elf import SHT_NOBITS, Elf

        if self._parsed is None:
            self._parsed = Elf(self._elf, self._spec.name)
        elf = self._parsed
        section = elf.section(variable.section)
        if section is None or section.type == SHT_NOBITS:
            return bytes(variable.size)
        return elf.data(section)[variable.offset : variable.offset + variable.size]
