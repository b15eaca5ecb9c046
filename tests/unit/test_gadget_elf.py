"""The ELF reader: what it reads, and that hostile bytes only raise our errors."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.elf_writer import LOCAL, ElfWriter, exit_, helper, load

from ig_py.errors import IgPyError, LimitError, ObjectError
from ig_py.gadget import elf as elf_module
from ig_py.gadget.elf import Elf
from ig_py.gadget.variables import read_programs, read_variables
from ig_py.inspect.disasm import Listing
from ig_py.inspect.program_graph import ProgramGraph


def small_object() -> bytes:
    obj = ElfWriter()
    obj.map("events")
    obj.variable("threshold", ".rodata", b"\x07\0\0\0")
    obj.variable("hidden", ".rodata", b"\0" * 4, other=2)
    obj.variable("counter", ".bss", 8)
    obj.program("prog", "tracepoint/a/b", [load(1, "events"), helper(1), exit_()])
    obj.program("sub", ".text", [exit_()])
    obj.program("label", "tracepoint/a/b", [exit_()], bind=LOCAL)
    return obj.write()


def test_sections_symbols_and_relocations() -> None:
    elf = Elf(small_object())
    assert [s.name for s in elf.sections[:4]] == ["", ".maps", ".rodata", ".bss"]
    rodata = elf.section(".rodata")
    assert rodata is not None
    assert elf.data(rodata) == b"\x07" + b"\0" * 7
    bss = elf.section(".bss")
    assert bss is not None
    assert (bss.size, elf.data(bss)) == (8, b"")
    program = elf.section("tracepoint/a/b")
    assert program is not None
    [relocation] = elf.relocations[program.index]
    assert (relocation.offset, relocation.symbol.name) == (0, "events")


def test_variables_are_the_visible_globals_of_data_sections() -> None:
    found = [
        (v.section, v.name, v.offset, v.size) for v in read_variables(Elf(small_object()), None)
    ]
    assert found == [(".bss", "counter", 0, 8), (".rodata", "threshold", 0, 4)]


def test_programs_are_the_global_functions_outside_text() -> None:
    assert read_programs(Elf(small_object())) == [("prog", "tracepoint/a/b")]


def patched(offset: int, data: bytes) -> bytes:
    raw = bytearray(small_object())
    raw[offset : offset + len(data)] = data
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no ELF header"),
        (b"\x7fELF", "no ELF header"),
        (patched(0, b"MZ"), "no ELF header"),
        (patched(4, b"\x01"), "not a 64-bit file"),
        (patched(5, b"\x02"), "not little-endian"),
        (patched(18, b"\x3e\0"), "machine 62"),
        (patched(16, b"\x02\0"), "not a relocatable file"),
        (patched(60, b"\0\0"), "no section table"),
        (patched(62, b"\xff\xff"), "no section names"),
        (patched(40, struct.pack("<Q", 1 << 60)), "lies outside the file"),
    ],
)
def test_malformed_files_are_refused_with_the_reason(raw: bytes, why: str) -> None:
    with pytest.raises(ObjectError, match=why):
        Elf(raw, "x").relocations  # noqa: B018


def test_too_many_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf_module, "MAX_SECTIONS", 3)
    with pytest.raises(LimitError, match="sections"):
        Elf(small_object())


def test_too_many_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf_module, "MAX_SYMBOLS", 2)
    with pytest.raises(LimitError, match="symbols"):
        Elf(small_object())


def test_too_many_relocations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf_module, "MAX_RELOCATIONS", 0)
    with pytest.raises(LimitError, match="relocations"):
        Elf(small_object()).relocations  # noqa: B018


def test_file_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf_module, "MAX_FILE_SIZE", 10)
    with pytest.raises(LimitError, match="bytes"):
        Elf(small_object())


def test_name_too_long() -> None:
    obj = ElfWriter()
    obj.variable("x" * 5000, ".rodata", b"\0")
    with pytest.raises(ObjectError, match="longer than"):
        Elf(obj.write())


def test_variable_outside_its_section() -> None:
    obj = ElfWriter()
    obj.variable("v", ".rodata", b"\0" * 4)
    obj.symbol("w", ".rodata", 2, 4)
    with pytest.raises(ObjectError, match="'w' lies outside"):
        read_variables(Elf(obj.write()), None)


def read_everything(raw: bytes) -> None:
    elf = Elf(raw, "fuzz")
    read_variables(elf, None)
    read_programs(elf)
    graph = ProgramGraph(elf)
    graph.flowchart()
    graph.sequence()
    listing = Listing(elf)
    for program in listing.programs():
        listing.source(program)
        listing.annotated(program)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_flipped_bytes_only_raise_our_errors(data: st.DataObject) -> None:
    raw = bytearray(small_object())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))
    with contextlib.suppress(IgPyError):
        read_everything(bytes(raw[:end]))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_only_raise_our_errors(tail: bytes) -> None:
    with pytest.raises(IgPyError):
        read_everything(small_object()[:40] + tail)
