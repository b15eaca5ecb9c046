"""From a GadgetSpec to an object in the kernel: constants, map sizes, programs."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ig_py.errors import IgPyError, KernelError, ObjectError, UsageError, VerifierRejected
from ig_py.gadget.spec import GadgetSpec, MapSpec, ProgramSpec, VariableSpec
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py._core import CoreError, Map, Object

DEFAULT_BUFFER_SIZE = 8 << 20
"""Bytes of ring buffer of each tracer map: 256 KiB, as gadgets declare, holds 35 exec events."""
MIN_BUFFER_SIZE = resource.getpagesize()
MAX_BUFFER_SIZE = 1 << 30
MAX_MAP_ENTRIES = 1 << 24
"""Most entries that a ``<map>_max_entries`` variable may ask for."""

MEMORY_REMEDY = (
    "raise RLIMIT_MEMLOCK (ulimit -l) or the control group's memory limit, "
    "or ask for less with --buffer-size"
)
"""libbpf raises RLIMIT_MEMLOCK where the kernel charges it and privileges allow."""

MAP_PERF_EVENT_ARRAY = 4
MAP_RINGBUF = 27
MAX_ENTRIES_SUFFIX = "_max_entries"

_FEATURES = {
    ("kprobe", "kprobes"): ("kprobe", "kretprobe", "ksyscall", "kretsyscall"),
    ("fentry", "fentry programs"): ("fentry", "fexit", "fmod_ret"),
    ("lsm", "BPF LSM programs"): ("lsm",),
    ("iter", "BPF iterators"): ("iter",),
    ("uprobe", "uprobes"): ("uprobe", "uretprobe", "usdt"),
    ("raw_tracepoint", "raw tracepoints"): ("raw_tracepoint", "raw_tp"),
    ("tracepoint", "tracepoints"): ("tracepoint", "tp"),
}
"""(feature of the core's probe, in words) → kinds of program that need it."""


@dataclass
class LoadSettings:
    """*constants* (variable → value) and *maps* (name → replacement) come from operators,
    *values* are the eBPF parameters' bytes by variable name."""

    buffer_size: int = DEFAULT_BUFFER_SIZE
    constants: Mapping[str, bool | int | bytes] = field(default_factory=dict)
    maps: Mapping[str, Map] = field(default_factory=dict)
    values: Mapping[str, bytes] = field(default_factory=dict)


class Loader:
    """Loads one object and attaches its programs. *notice* gets what the user should know."""

    def __init__(
        self,
        elf: bytes,
        spec: GadgetSpec,
        settings: LoadSettings,
        notice: Callable[[str], None],
    ) -> None:
        self._elf = elf
        self._spec = spec
        self._settings = settings
        self._notice = notice
        self._skipped: dict[str, str] = {}
        self._probed: dict[str, bool] = {}

    def load(self) -> Object:
        """Open, configure and load.

        :class:`VerifierRejected` (the log is its detail), :class:`KernelError`
        or :class:`ObjectError`; nothing stays in the kernel then.
        """
        from ig_py._core import CoreError

        for program in self._spec.programs:
            if program.optional and not program.disabled and (lack := self._lacks(program)):
                self._skip(program, f"this kernel has no {lack}")
        try:
            return self._load_once()
        except CoreError as err:
            optional = [p for p in self._spec.programs if p.optional and self._wanted(p)]
            if err.args[0] not in ("verifier", "load") or not optional:
                raise self._explain(err) from err
            # One that may be absent might be the one refused: try without them.
            first = err
        try:
            for program in optional:
                self._skipped[program.name] = ""
            obj = self._load_once()
        except CoreError as err:
            raise self._explain(first) from err
        why = str(first.args[1])
        for program in optional:
            self._skip(program, why)
        return obj

    def attach(self, obj: Object, check: Callable[[], None]) -> None:
        """Attach every program; *check* is called between two and may raise to stop.

        :class:`KernelError` when a program that is not optional cannot be attached.
        """
        from ig_py._core import CoreError

        for program in self._spec.programs:
            if program.disabled or not self._wanted(program) or is_iterator(program):
                continue
            check()
            try:
                obj.attach(program.name)
            except CoreError as err:
                if not program.optional:
                    raise self._explain(err, program) from err
                self._skip(program, str(err.args[1]))

    def _wanted(self, program: ProgramSpec) -> bool:
        return program.name not in self._skipped

    def _skip(self, program: ProgramSpec, why: str) -> None:
        self._skipped[program.name] = why
        text = f'program "{program.name}" ({program.section}) is skipped: {why}'
        if program.fields_if_absent:
            text += f"; these fields stay empty: {', '.join(program.fields_if_absent)}"
        self._notice(text)

    def _load_once(self) -> Object:
        from ig_py._core import Object

        obj = Object(self._elf, self._spec.name[:64] or "gadget")
        try:
            self._configure(obj)
            obj.load()
        except BaseException:
            obj.close()
            raise
        return obj

    def _configure(self, obj: Object) -> None:
        known = {info["name"] for info in obj.programs()}
        for program in self._spec.programs:
            if program.name not in known:
                continue
            if not self._wanted(program):
                obj.set_autoload(program.name, False)
            elif program.attach_to:
                obj.set_attach_target(program.name, program.attach_to)
        for name, raw in self._settings.values.items():
            self._set(obj, name, raw)
        for name, value in self._settings.constants.items():
            self._set(obj, name, self._encode(name, value))
        for name in self._spec.tracer_maps:
            self._size_tracer(obj, name)
        for declared in self._spec.maps:
            self._size_map(obj, declared)
        for name, replacement in self._settings.maps.items():
            if self._spec.map(name) is not None:
                obj.reuse_map(name, replacement)

    def _variable(self, name: str) -> VariableSpec:
        variable = self._spec.variable(name)
        if variable is None:
            raise ObjectError(f'gadget {self._spec.name}: the object has no variable "{name}"')
        return variable

    def _encode(self, name: str, value: bool | int | bytes) -> bytes:
        size = self._variable(name).size
        if isinstance(value, bytes):
            return value.ljust(size, b"\0")
        try:
            return int(value).to_bytes(size, "little", signed=value < 0)
        except OverflowError as err:
            raise ObjectError(f'variable "{name}" of {size} bytes cannot hold {value}') from err

    def _set(self, obj: Object, name: str, raw: bytes) -> None:
        variable = self._variable(name)
        if len(raw) != variable.size:
            raise ObjectError(
                f'variable "{name}" has {variable.size} bytes, its value {len(raw)}: '
                "not a value of this variable"
            )
        obj.set_data(variable.section, variable.offset, raw)

    def _size_tracer(self, obj: Object, name: str) -> None:
        declared = self._spec.map(name)
        if declared is None or declared.type != MAP_RINGBUF:
            return
        if self._has("ringbuf"):
            obj.set_max_entries(name, ring_size(self._settings.buffer_size))
        else:
            obj.set_map_type(name, MAP_PERF_EVENT_ARRAY, 4, 4)
            # 0: libbpf takes the number of CPUs.
            obj.set_max_entries(name, 0)

    def _size_map(self, obj: Object, declared: MapSpec) -> None:
        variable = self._spec.variable(declared.name + MAX_ENTRIES_SUFFIX)
        if variable is None:
            return
        raw = self._settings.values.get(variable.name) or self._initial(variable)
        entries = int.from_bytes(raw, "little")
        if not 0 < entries <= MAX_MAP_ENTRIES:
            raise UsageError(
                f'"{variable.name}" is {entries}: map "{declared.name}" can have 1 to '
                f"{MAX_MAP_ENTRIES} entries"
            )
        obj.set_max_entries(declared.name, entries)

    def _initial(self, variable: VariableSpec) -> bytes:
        from ig_py.gadget.elf import SHT_NOBITS, Elf

        elf = Elf(self._elf, self._spec.name)
        section = elf.section(variable.section)
        if section is None or section.type == SHT_NOBITS:
            return bytes(variable.size)
        return elf.data(section)[variable.offset : variable.offset + variable.size]

    def _has(self, feature: str) -> bool:
        from ig_py._core import probe

        if feature not in self._probed:
            self._probed[feature] = probe(feature)
        return self._probed[feature]

    def _lacks(self, program: ProgramSpec) -> str:
        """What *program* needs and the kernel lacks, in words; "" when it lacks nothing."""
        kind = program.section.lstrip("?").split("/", 1)[0].split(".", 1)[0]
        for (feature, words), kinds in _FEATURES.items():
            if kind in kinds:
                return "" if self._has(feature) else words
        return ""

    def _explain(self, err: CoreError, program: ProgramSpec | None = None) -> IgPyError:
        kind, message, log = (*err.args, "", "", "")[:3]
        what = f"running gadget {self._spec.name}: {message}"
        if kind == "verifier":
            return VerifierRejected(
                f"{what}{_last_words(log)}", remedy="-v shows the whole log", detail=log
            )
        if kind == "memory":
            return KernelError(what, remedy=MEMORY_REMEDY, detail=log)
        if kind in ("open", "btf", "map", "plan"):
            return ObjectError(what, detail=log)
        if program is not None and (lack := self._lacks(program)):
            what += f" (this kernel has no {lack})"
        return KernelError(what, detail=log)


def is_iterator(program: ProgramSpec) -> bool:
    """Iterators are opened by what reads them, not attached."""
    return program.section.lstrip("?").split("/", 1)[0] in ("iter", "iter.s")


def _last_words(log: str) -> str:
    """The verifier's verdict: the last line before its statistics."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    end = next((i for i, line in enumerate(lines) if line.startswith("processed ")), len(lines))
    verdict = [line for line in lines[:end] if "-- BEGIN " not in line][-1:]
    return f": {verdict[0]} ({len(lines) - 1} line(s) omitted)" if verdict else ""


def ring_size(wanted: int) -> int:
    """The smallest size a ring buffer can have that holds *wanted* bytes.

    A power of two and a multiple of the page size (kernel: ``ringbuf_map_alloc``).
    """
    size = MIN_BUFFER_SIZE
    while size < wanted:
        size <<= 1
    return size


def parse_size(text: str) -> int:
    """``8M`` → bytes (suffixes K, M, G, powers of 1024). :class:`UsageError` if out of bounds."""
    match = re.fullmatch(r"([0-9]{1,12})([KkMmGg]?)(?:i?[Bb])?", text)
    size = -1
    if match:
        size = int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()]
    if not MIN_BUFFER_SIZE <= size <= MAX_BUFFER_SIZE:
        raise UsageError(
            f'invalid argument "{text}" for "--buffer-size" flag: expected a size from '
            f"{MIN_BUFFER_SIZE >> 10}K to {MAX_BUFFER_SIZE >> 30}G, such as 8M"
        )
    return size
