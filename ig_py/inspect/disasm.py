"""Instructions as text, in the style of ``image inspect``'s extra info ``ebpf.programs``.

One line an instruction: its number (a 16-byte load counts twice), mnemonic,
operands, and in angle brackets what it refers to; above it the source line that
it begins. Encoding: kernel Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import math

from ig_py.gadget.allowance import Allowance
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import BtfKind
from ig_py.gadget.elf import Elf
from ig_py.gadget.insn import (
    CALL,
    LD_IMM64,
    PSEUDO_CALL,
    PSEUDO_FUNC,
    PSEUDO_MAP_VALUE,
    SIZE,
    Code,
    Function,
    Instruction,
)
from ig_py.inspect.btf_ext import BtfExt, CoreRelocation
from ig_py.inspect.helpers import builtin_name
from ig_py.inspect.lines import Lines

MAX_TEXT = 8 << 20
"""Characters of all listings of an object: a source line may be named by any instruction."""

_TYPE_NAMES = {kind: kind.name.title().replace("_", "") for kind in BtfKind}

_LOAD_STORE = {0: "Ld", 1: "LdX", 2: "St", 3: "StX"}
_ALU32, _JUMP, _JUMP32, _ALU64 = 4, 5, 6, 7
_SIZES = {0x00: "W", 0x08: "H", 0x10: "B", 0x18: "DW"}
_MODES = {0x00: "Imm", 0x20: "Abs", 0x40: "Ind", 0x60: "Mem", 0x80: "MemSX", 0xC0: "Atomic"}
_ALU = (
    "Add", "Sub", "Mul", "Div", "Or", "And", "LSh", "RSh",
    "Neg", "Mod", "Xor", "Mov", "ArSh", "Swap",
)  # fmt: skip
_JUMPS = (
    "Ja", "JEq", "JGT", "JGE", "JSet", "JNE", "JSGT", "JSGE",
    "Call", "Exit", "JLT", "JLE", "JSLT", "JSLE",
)  # fmt: skip
_SWAP, _MOV, _DIV, _MOD = 0xD0, 0xB0, 0x30, 0x90
_ATOMICS = {
    0x00: "Add",
    0x01: "FetchAdd",
    0x40: "Or",
    0x41: "FetchOr",
    0x50: "And",
    0x51: "FetchAnd",
    0xA0: "Xor",
    0xA1: "FetchXor",
    0xE1: "Xchg",
    0xF1: "CmpXchg",
    0x100: "LoadAcquire",
    0x110: "StoreRelease",
}
_PSEUDO_MAP_FD, _PSEUDO_KFUNC = 1, 2


def register(number: int) -> str:
    """``r0`` to ``r9``; ``rfp`` is the frame pointer."""
    return "rfp" if number == 10 else f"r{number}"


def _load_store(ins: Instruction, cls: int) -> str:
    mode, size = _MODES.get(ins.opcode & 0xE0), _SIZES[ins.opcode & 0x18]
    if mode is None:
        return _unknown(ins)
    dst, src = f"dst: {register(ins.dst)}", f"src: {register(ins.src)}"
    if mode == "Atomic":
        name = _ATOMICS.get(ins.imm & 0xFFF)
        return (
            f"{_LOAD_STORE[cls]}Atomic{name}{size} {dst} {src} off: {ins.off}"
            if name
            else _unknown(ins)
        )
    head = f"{_LOAD_STORE[cls]}{mode}{size}"
    match mode:
        case "Imm":
            return f"{head} {dst} imm: {_signed64(ins.imm)}"
        case "Abs":
            return f"{head} imm: {ins.imm}"
        case "Ind":
            return f"{head} {dst} {src} imm: {ins.imm}"
        case _:
            return f"{head} {dst} {src} off: {ins.off} imm: {ins.imm}"


def _signed64(value: int) -> int:
    return value - (1 << 64) if value >> 63 and value > 0 else value


def _load_imm64(ins: Instruction) -> str:
    dst = register(ins.dst)
    if ins.src == _PSEUDO_MAP_FD:
        return f"LoadMapPtr dst: {dst} fd: {ins.imm & 0xFFFFFFFF}"
    if ins.src == PSEUDO_MAP_VALUE:
        return f"LoadMapValue dst: {dst}, fd: {ins.imm & 0xFFFFFFFF} off: {ins.imm >> 32}"
    return _load_store(ins, 0)


def _alu(ins: Instruction, cls: int) -> str:
    index = ins.opcode >> 4
    if index >= len(_ALU):
        return _unknown(ins)
    op, narrow = ins.opcode & 0xF0, cls == _ALU32
    dst, name = f"dst: {register(ins.dst)}", _ALU[index]
    from_register = bool(ins.opcode & 0x08)
    if op == _SWAP:
        if narrow:
            return f"Swap{'BE' if from_register else 'LE'} {dst} imm: {ins.imm}"
        return f"BSwap {dst} imm: {ins.imm}"
    # The offset selects signed division and sign-extending moves.
    if ins.off and op in (_DIV, _MOD):
        name = "S" + name
    elif ins.off and op == _MOV:
        name = f"{name}SX{ins.off}"
    suffix = "32" if narrow else ""
    if from_register:
        return f"{name}Reg{suffix} {dst} src: {register(ins.src)}"
    return f"{name}Imm{suffix} {dst} imm: {ins.imm}"


def _jump(ins: Instruction, cls: int) -> str:
    index = ins.opcode >> 4
    if index >= len(_JUMPS):
        return _unknown(ins)
    name = _JUMPS[index]
    if cls == _JUMP32:
        name += "32"
    if _JUMPS[index] == "Exit":
        return name
    if _JUMPS[index] == "Call":
        if ins.src == PSEUDO_CALL:
            # The distance is the linker's to say.
            return f"{name} {-1 if ins.is_function else ins.imm}"
        if ins.src == _PSEUDO_KFUNC:
            return f"{name} Kfunc({ins.imm})"
        return f"{name} {builtin_name(ins.imm)}"
    if _JUMPS[index] == "Ja":
        # In the 32-bit class the distance is the immediate.
        return f"{name} off: {ins.imm if cls == _JUMP32 else ins.off}"
    dst = f"dst: {register(ins.dst)}"
    if ins.opcode & 0x08:
        return f"{name}Reg {dst} off: {ins.off} src: {register(ins.src)}"
    return f"{name}Imm {dst} off: {ins.off} imm: {ins.imm}"


def _unknown(ins: Instruction) -> str:
    return f"INVALID {ins.opcode:#04x}"


def text_of(ins: Instruction) -> str:
    """One instruction, e.g. ``LoadMapPtr dst: r1 fd: 0 <events>``."""
    cls = ins.opcode & 0x07
    reference = ins.reference
    if ins.opcode == LD_IMM64:
        # Which kind of load it becomes is for the loader to say, from the relocation.
        to_map = reference and not ins.is_function and not ins.reference.startswith(".")
        if to_map and ins.src == 0:
            text = f"LoadMapPtr dst: {register(ins.dst)} fd: {ins.imm & 0xFFFFFFFF}"
        elif reference and ins.reference.startswith(".") and ins.src == 0:
            text = f"LoadMapValue dst: {register(ins.dst)}, fd: 0 off: {ins.place}"
        elif ins.src == PSEUDO_FUNC:
            text = _load_store(ins, 0)
        else:
            text = _load_imm64(ins)
    elif cls in _LOAD_STORE:
        text = _load_store(ins, cls)
    elif cls in (_ALU32, _ALU64):
        text = _alu(ins, cls)
    else:
        text = _jump(ins, cls)
    if reference and (ins.opcode in (LD_IMM64, CALL)):
        text += f" <{reference}>"
    return text


def _relocation(btf: Btf, relocation: CoreRelocation) -> str:
    kind, name = btf.kind(relocation.type_id), btf.name(relocation.type_id)
    access = btf.string(relocation.access)
    return (
        f'CORERelocation({relocation.kind}, {_TYPE_NAMES[kind]}:"{name}"[{access}], '
        f"local_id={relocation.type_id})"
    )


class Listing:
    """Listings of an object's programs, each with all functions that it reaches.

    Raises:
        ObjectError: The BTF is malformed.
        LimitError: The listings have more than MAX_TEXT characters in all.
    """

    def __init__(self, elf: Elf, code: Code | None = None) -> None:
        self._code = code or Code(elf)
        self._left = Allowance(MAX_TEXT, f"listing the instructions of {elf.source}", "characters")
        self._texts: dict[str, list[str]] = {}
        self._notes: dict[int | CoreRelocation, str] = {}
        self._btf: Btf | None = None
        self._lines: dict[str, dict[int, int]] = {}
        self._relocations: dict[str, dict[int, CoreRelocation]] = {}
        types, ext = elf.section(".BTF"), elf.section(".BTF.ext")
        if types is not None and ext is not None:
            self._btf = Btf(elf.data(types), elf.source)
            notes = BtfExt(elf.data(ext), self._btf)
            self._lines, self._relocations = notes.lines(), notes.relocations()

    def programs(self) -> list[Function]:
        """The object's programs, sorted by name."""
        return self._code.programs()

    def source(self, program: Function) -> str:
        """Numbered instructions under their function's name, below their source lines."""
        reached = self._code.reached(program)
        count = sum(len(function.instructions) for function in reached)
        width = math.ceil(math.log10(max(2, 2 * count)))
        lines, number = Lines(self._left), 0
        for function in reached:
            lines.add(f"{function.name}:")
            notes = self._lines.get(function.section, {})
            for ins, text in zip(function.instructions, self._text(function), strict=True):
                if note := self._note(notes.get(ins.offset, 0)).strip():
                    lines.add(f"\t{'':{width}}; {note}")
                lines.add(f"\t{number:>{width}}: {text}")
                number += ins.size // SIZE
        return lines.text()

    def annotated(self, program: Function) -> str:
        """Instructions alone, below their source lines as written and their relocations."""
        lines = Lines(self._left)
        for function in self._code.reached(program):
            notes = self._lines.get(function.section, {})
            relocations = self._relocations.get(function.section, {})
            for ins, text in zip(function.instructions, self._text(function), strict=True):
                if (note := notes.get(ins.offset)) is not None:
                    lines.add(f"; {self._note(note)}")
                if (relocation := relocations.get(ins.offset)) is not None:
                    lines.add(f"; {self._note(relocation)}")
                lines.add(text)
        return lines.text()

    def _text(self, function: Function) -> list[str]:
        """A function's instructions, made once for all programs that reach it."""
        if function.name not in self._texts:
            self._texts[function.name] = [text_of(ins) for ins in function.instructions]
        return self._texts[function.name]

    def _note(self, note: int | CoreRelocation) -> str:
        """Text of a relocation, or of the source line at an offset; decoded once."""
        if note not in self._notes and self._btf:
            if isinstance(note, int):
                self._notes[note] = self._btf.string(note)
            else:
                self._notes[note] = _relocation(self._btf, note)
        return self._notes.get(note, "")
