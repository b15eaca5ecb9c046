"""Listings of programs: source lines, relocations, and the functions that are reached."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.elf_writer import LOCAL, BtfWriter, ElfWriter, Insn, call, exit_, helper, load

from ig_py.errors import IgPyError, LimitError, ObjectError
from ig_py.gadget.elf import Elf
from ig_py.inspect import btf_ext, disasm
from ig_py.inspect.disasm import Listing

SECTION = "kprobe/f"
Records = Sequence[tuple[int, ...]]


def part(section: int, records: Records, width: int) -> bytes:
    """One kind's records, all of one section; *width* may exceed what the records fill."""
    body = b"".join(struct.pack(f"<{len(r)}I", *r).ljust(width, b"\0") for r in records)
    return struct.pack("<III", width, section, len(records)) + body


def ext(btf: BtfWriter, lines: Records, relocations: Records, header: int = 32) -> bytes:
    section = btf.string(SECTION)
    first, second = part(section, lines, 20), part(section, relocations, 16)
    fields = [0, 0, 0, len(first), len(first), len(second)]
    return struct.pack("<HBBI6I", 0xEB9F, 1, 0, header, *fields)[:header] + first + second


def annotated_object(header: int = 32) -> bytes:
    btf = BtfWriter()
    task = btf.struct("task_struct", 8, [])
    at = [btf.string(text) for text in ("\treturn look(it);", "  ", "\tx = it->a->b;")]
    lines = [(0, 0, at[0], 0), (16, 0, at[1], 0), (40, 0, at[2], 0)]
    relocations = [(24, task, btf.string("0:1:2"), 0), (40, task, btf.string("0"), 2)]
    notes = ext(btf, lines, relocations, header)
    obj = ElfWriter()
    obj.map("events")
    body = [load(1, "events"), helper(1), call("sub"), exit_()]
    obj.program("prog", SECTION, body)
    obj.program("sub", SECTION, [Insn(0xB7, 0, imm=5), exit_()], bind=LOCAL)
    obj.section(".BTF.ext", data=notes)
    return obj.write(btf.write())


def test_numbers_source_lines_and_called_functions() -> None:
    listing = Listing(Elf(annotated_object()))
    [program] = [p for p in listing.programs() if p.name == "prog"]
    assert listing.source(program) == (
        "prog:\n"
        "\t  ; return look(it);\n"
        "\t 0: LoadMapPtr dst: r1 fd: 0 <events>\n"
        "\t 2: Call FnMapLookupElem\n"
        "\t 3: Call -1 <sub>\n"
        "\t 4: Exit\n"
        "sub:\n"
        "\t  ; x = it->a->b;\n"
        "\t 5: MovImm dst: r0 imm: 5\n"
        "\t 6: Exit\n"
    )


def test_lines_as_written_and_relocations() -> None:
    listing = Listing(Elf(annotated_object()))
    [program] = [p for p in listing.programs() if p.name == "prog"]
    assert listing.annotated(program) == (
        "; \treturn look(it);\n"
        "LoadMapPtr dst: r1 fd: 0 <events>\n"
        ";   \n"
        "Call FnMapLookupElem\n"
        '; CORERelocation(byte_off, Struct:"task_struct"[0:1:2], local_id=1)\n'
        "Call -1 <sub>\n"
        "Exit\n"
        "; \tx = it->a->b;\n"
        '; CORERelocation(field_exists, Struct:"task_struct"[0], local_id=1)\n'
        "MovImm dst: r0 imm: 5\n"
        "Exit\n"
    )


def test_an_object_without_notes() -> None:
    obj = ElfWriter()
    obj.program("prog", SECTION, [exit_()])
    listing = Listing(Elf(obj.write()))
    [program] = listing.programs()
    assert (listing.source(program), listing.annotated(program)) == (
        "prog:\n\t0: Exit\n",
        "Exit\n",
    )


def test_a_header_that_knows_no_relocations() -> None:
    listing = Listing(Elf(annotated_object(header=24)))
    text = "".join(listing.annotated(p) for p in listing.programs())
    assert "return look(it);" in text
    assert "CORERelocation" not in text


def test_text_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disasm, "MAX_TEXT", 100)
    listing = Listing(Elf(annotated_object()))
    with pytest.raises(LimitError, match="more than 100 characters"):
        for program in listing.programs():
            listing.source(program)


def test_records_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btf_ext, "MAX_RECORDS", 3)
    with pytest.raises(LimitError, match="more than 3 records"):
        Listing(Elf(annotated_object()))


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (0, b"\0\0", "wrong magic"),
        (20, b"\xff\xff\0\0", "lies outside"),
        (32, b"\x08\0\0\0", "too short"),
        (40, b"\xff\0\0\0", "cut short"),
    ],
)
def test_damaged_notes(place: int, value: bytes, why: str) -> None:
    raw = annotated_object()
    section = Elf(raw).section(".BTF.ext")
    assert section is not None
    at = section.offset + place
    with pytest.raises(ObjectError, match=why):
        Listing(Elf(raw[:at] + value + raw[at + len(value) :]))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_flipped_bytes_only_raise_our_errors(data: st.DataObject) -> None:
    raw = bytearray(annotated_object())
    section = Elf(bytes(raw)).section(".BTF.ext")
    assert section is not None
    for _ in range(data.draw(st.integers(1, 6))):
        place = section.offset + data.draw(st.integers(0, section.size - 1))
        raw[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(IgPyError):
        listing = Listing(Elf(bytes(raw)))
        for program in listing.programs():
            listing.annotated(program)
