"""What ``.BTF.ext`` says of single instructions: source lines and CO-RE relocations.

Encoding: kernel Documentation/bpf/btf.rst, section 4.2. The section comes from an image: every
length is checked, and records are counted against limits before they are kept.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget.btf import MAGIC, Btf
from ig_py.records import dataclass

MAX_RECORDS = 1 << 18
"""Source lines, relocations and the lists that they are in, of an object together."""

_HEADER = struct.Struct("<HBBIIIII")
_CORE_RELO = struct.Struct("<II")
_SECTION = struct.Struct("<II")
_LINE = struct.Struct("<IIII")
_RELOCATION = struct.Struct("<IIII")

RELOCATION_KINDS = (
    "byte_off", "byte_sz", "field_exists", "signed", "lshift_u64", "rshift_u64",
    "local_type_id", "target_type_id", "type_exists", "type_size",
    "enumval_exists", "enumval_value", "type_matches",
)  # fmt: skip
"""Names of ``enum bpf_core_relo_kind`` (include/uapi/linux/bpf.h), by value."""


@dataclass(frozen=True, slots=True)
class CoreRelocation:
    """A relocation against the type *type_id*; *access* is where its accessor's text is."""

    kind: str
    type_id: int
    access: int


class BtfExt:
    """The content *raw* of ``.BTF.ext`` of an object whose type information is *btf*.

    Raises:
        ObjectError: It is malformed.
        LimitError: It has more than MAX_RECORDS records.
    """

    def __init__(self, raw: bytes, btf: Btf) -> None:
        self._raw = raw
        self._btf = btf
        self._records = 0
        if len(raw) < _HEADER.size:
            raise self._bad("no header")
        magic, version, _, length, _, _, line_off, line_len = _HEADER.unpack_from(raw)
        if magic != MAGIC or version != 1:
            raise self._bad("wrong magic, byte order or version")
        # Headers of old compilers end before the relocations.
        core_off, core_len = (
            _CORE_RELO.unpack_from(raw, _HEADER.size)
            if length >= _HEADER.size + _CORE_RELO.size and len(raw) >= length
            else (0, 0)
        )
        self._lines = self._part(length + line_off, line_len)
        self._relocations = self._part(length + core_off, core_len)

    def lines(self) -> dict[str, dict[int, int]]:
        """Where the texts of source lines are (:meth:`Btf.string`), by section and by the byte
        offset of their instruction in it.
        """
        return {
            section: {at: line for at, _, line, _ in records}
            for section, records in self._sections(self._lines, _LINE)
        }

    def relocations(self) -> dict[str, dict[int, CoreRelocation]]:
        """Relocations by section and by the byte offset of their instruction in it."""
        found: dict[str, dict[int, CoreRelocation]] = {}
        for section, records in self._sections(self._relocations, _RELOCATION):
            inside = found.setdefault(section, {})
            for at, type_id, access, kind in records:
                name = RELOCATION_KINDS[kind] if kind < len(RELOCATION_KINDS) else str(kind)
                inside[at] = CoreRelocation(name, type_id, access)
        return found

    def _bad(self, why: str) -> ObjectError:
        return ObjectError(f"reading .BTF.ext of {self._btf.source}: {why}")

    def _part(self, offset: int, size: int) -> bytes:
        if offset + size > len(self._raw):
            raise self._bad("a part lies outside the section")
        return self._raw[offset : offset + size]

    def _sections(
        self, part: bytes, record: struct.Struct
    ) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
        """Each ELF section's name and its records; a record may be longer than is known."""
        if not part:
            return
        step = int.from_bytes(part[:4], "little")
        if len(part) < 4 or step < record.size:
            raise self._bad("records are too short")
        at = 4
        while at < len(part):
            if at + _SECTION.size > len(part):
                raise self._bad("a part is cut short")
            name, count = _SECTION.unpack_from(part, at)
            at += _SECTION.size
            if at + count * step > len(part):
                raise self._bad("a part is cut short")
            self._records += count + 1
            if self._records > MAX_RECORDS:
                raise LimitError(
                    f"reading .BTF.ext of {self._btf.source}: more than {MAX_RECORDS} records"
                )
            yield (
                self._btf.string(name),
                [record.unpack_from(part, at + i * step) for i in range(count)],
            )
            at += count * step
