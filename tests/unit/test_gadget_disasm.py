"""Instructions as text."""

from __future__ import annotations

import pytest

from ig_py.gadget.insn import Instruction
from ig_py.inspect.disasm import text_of
from ig_py.inspect.helpers import builtin_name


def text(opcode: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0, ref: str = "") -> str:
    return text_of(Instruction(0, opcode, dst, src, off, imm, ref))


@pytest.mark.parametrize(
    ("instruction", "shown"),
    [
        ((0xB7, 0, 0, 0, 5), "MovImm dst: r0 imm: 5"),
        ((0xB4, 0, 0, 0, -1), "MovImm32 dst: r0 imm: -1"),
        ((0xBF, 6, 1), "MovReg dst: r6 src: r1"),
        ((0xBF, 6, 1, 8), "MovSX8Reg dst: r6 src: r1"),
        ((0x07, 10, 0, 0, -8), "AddImm dst: rfp imm: -8"),
        ((0x3F, 1, 2, 1), "SDivReg dst: r1 src: r2"),
        ((0x87, 3), "NegImm dst: r3 imm: 0"),
        ((0x84, 3), "NegImm32 dst: r3 imm: 0"),
        ((0xDC, 1, 0, 0, 16), "SwapBE dst: r1 imm: 16"),
        ((0xD4, 1, 0, 0, 32), "SwapLE dst: r1 imm: 32"),
        ((0xD7, 1, 0, 0, 64), "BSwap dst: r1 imm: 64"),
        ((0x79, 1, 6, 4), "LdXMemDW dst: r1 src: r6 off: 4 imm: 0"),
        ((0x91, 1, 6, 4), "LdXMemSXB dst: r1 src: r6 off: 4 imm: 0"),
        ((0x63, 10, 1, -4), "StXMemW dst: rfp src: r1 off: -4 imm: 0"),
        ((0x6A, 10, 0, -2, 7), "StMemH dst: rfp src: r0 off: -2 imm: 7"),
        ((0x30, 0, 0, 0, 12), "LdAbsB imm: 12"),
        ((0x48, 0, 3, 0, 2), "LdIndH dst: r0 src: r3 imm: 2"),
        ((0xDB, 1, 2, 8, 0x01), "StXAtomicFetchAddDW dst: r1 src: r2 off: 8"),
        ((0xC3, 1, 2, 0, 0xF1), "StXAtomicCmpXchgW dst: r1 src: r2 off: 0"),
        ((0x05, 0, 0, 3), "Ja off: 3"),
        ((0x06, 0, 0, 0, 70000), "Ja32 off: 70000"),
        ((0x15, 1, 0, 4, 0), "JEqImm dst: r1 off: 4 imm: 0"),
        ((0x2D, 1, 2, -4), "JGTReg dst: r1 off: -4 src: r2"),
        ((0x16, 1, 0, 4, 9), "JEq32Imm dst: r1 off: 4 imm: 9"),
        ((0x85, 0, 0, 0, 1), "Call FnMapLookupElem"),
        ((0x85, 0, 0, 0, 9999), "Call BuiltinFunc(9999)"),
        ((0x85, 0, 1, 0, -1, "sub"), "Call -1 <sub>"),
        ((0x85, 0, 2, 0, 77), "Call Kfunc(77)"),
        ((0x95,), "Exit"),
        ((0x18, 1, 0, 0, 0, "events"), "LoadMapPtr dst: r1 fd: 0 <events>"),
        ((0x18, 1, 0, 0, 0xFFFFFFFFFFFFFFFF), "LdImmDW dst: r1 imm: -1"),
        ((0x18, 1, 1, 0, 3), "LoadMapPtr dst: r1 fd: 3"),
        ((0xF7,), "INVALID 0xf7"),
        ((0xE1,), "INVALID 0xe1"),
        ((0xDB, 0, 0, 0, 0x33), "INVALID 0xdb"),
    ],
)
def test_instructions(instruction: tuple[int, ...], shown: str) -> None:
    assert text(*instruction) == shown  # type: ignore[arg-type]


def test_every_opcode_has_a_text() -> None:
    for opcode in range(256):
        assert text(opcode)


def test_a_place_in_a_data_section() -> None:
    ins = Instruction(0, 0x18, 9, 0, 0, 0, ".rodata", False, 36)
    assert text_of(ins) == "LoadMapValue dst: r9, fd: 0 off: 36 <.rodata>"


def test_names_of_helpers() -> None:
    assert builtin_name(25) == "FnPerfEventOutput"
    assert builtin_name(195) == "FnMapLookupPercpuElem"
    assert builtin_name(211) == "FnCgrpStorageDelete"
