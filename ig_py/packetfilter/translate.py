"""From classic BPF to the instructions of a filter function (Documentation/bpf/standardization).

The function gets the packet in R4 to R5 and the context in R1 to R3 (``GADGET_PF``). The translated
filter goes in front of its body: it leaves R4 != R5 exactly when the packet matches, and equal
values in R1 to R3, which the body compares. A read behind the packet's end rejects the packet, as
in the kernel's own classic filters.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ig_py.errors import LimitError, ObjectError
from ig_py.packetfilter.expression import Classic

A, X, AT, END_OF_READ, DATA, DATA_END, STACK = 0, 1, 2, 3, 4, 5, 10
MEMORY = -64
"""Where the 16 words of scratch memory begin, from the frame pointer."""
LENGTH = -72
MAX_OFFSET = 0xFFFF
"""Largest offset of packet pointers that the verifier accepts (MAX_PACKET_OFF)."""
MAX_JUMP = 0x7FFF
REJECT = -1
DONE = -2

_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_ABS, _IND, _MEM, _LEN, _MSH = 0x20, 0x40, 0x60, 0x80, 0xA0
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_DIV, _NEG, _MOD, _JA, _JSET = 0x30, 0x80, 0x90, 0x00, 0x40
_ALU_OPS = (0x00, 0x10, 0x20, _DIV, 0x40, 0x50, 0x60, 0x70, _NEG, _MOD, 0xA0)
_JUMP_OPS = {0x10: 0x10, 0x20: 0x20, 0x30: 0x30, _JSET: _JSET}
_ALU32, _ALU64, _JMP64, _JMP32, _LDX_MEM, _STX_MEM = 0x04, 0x07, 0x05, 0x06, 0x61, 0x63
_MOV, _ADD, _AND, _LSH = 0xB0, 0x00, 0x50, 0x60
_JEQ, _JGT, _JGE = 0x10, 0x20, 0x30
_TO_BE = 0xDC
_BY_REGISTER = 0x08


class _Jump(NamedTuple):
    """A jump whose distance is not known yet."""

    at: int
    target: int


class _Code:
    def __init__(self) -> None:
        self.words: list[bytes] = []
        self.jumps: list[_Jump] = []
        self.starts: dict[int, int] = {}

    def put(self, code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> None:
        self.words.append(struct.pack("<BBhI", code, src << 4 | dst, off, imm & 0xFFFFFFFF))

    def jump(
        self, target: int, code: int = _JMP64, dst: int = 0, src: int = 0, imm: int = 0
    ) -> None:
        self.jumps.append(_Jump(len(self.words), target))
        self.put(code, dst, src, 0, imm)

    def here(self, label: int) -> None:
        self.starts[label] = len(self.words)

    def finished(self) -> bytes:
        for jump in self.jumps:
            distance = self.starts[jump.target] - jump.at - 1
            if distance > MAX_JUMP:
                raise LimitError("translating a packet filter: it is too long for one function")
            word = self.words[jump.at]
            self.words[jump.at] = word[:2] + struct.pack("<h", distance) + word[4:]
        return b"".join(self.words)


def reject_all() -> bytes:
    """The filter that no packet passes."""
    code = _Code()
    code.put(_ALU32 | _MOV, A)
    _end(code)
    return code.finished()


def translated(program: Sequence[Classic]) -> bytes:
    """*program* for the filter function.

    Raises:
        ObjectError: It is not a valid program.
    """
    code = _Code()
    if any(_reads_length(i) for i in program):
        # The context is a struct __sk_buff, whose first member is the packet's length.
        code.put(_LDX_MEM, AT, X, 0)
        code.put(_STX_MEM, STACK, AT, LENGTH)
    code.put(_ALU32 | _MOV, A)
    code.put(_ALU32 | _MOV, X)
    for word in sorted(_memory(program)):
        code.put(_STX_MEM, STACK, A, MEMORY + 4 * word)
    for at, instruction in enumerate(program):
        code.here(at)
        _translate(code, at, instruction, len(program))
    if any(jump.target == REJECT for jump in code.jumps):
        code.here(REJECT)
        code.put(_ALU32 | _MOV, A)
    _end(code)
    return code.finished()


def _end(code: _Code) -> None:
    code.here(DONE)
    code.put(_ALU64 | _MOV | _BY_REGISTER, DATA, A)
    for register in (X, AT, END_OF_READ, DATA_END):
        code.put(_ALU64 | _MOV, register)


def _reads_length(i: Classic) -> bool:
    return i.code & 7 in (_LD, _LDX) and i.code & 0xE0 == _LEN


def _memory(program: Sequence[Classic]) -> set[int]:
    """The words of scratch memory that are used."""
    used = set()
    for i in program:
        if i.code & 7 in (_ST, _STX) or (i.code & 7 in (_LD, _LDX) and i.code & 0xE0 == _MEM):
            if i.k > 15:
                raise _invalid(i)
            used.add(i.k)
    return used


def _invalid(i: Classic) -> ObjectError:
    return ObjectError(f"translating a packet filter: instruction {i.code:#x} {i.k} is not valid")


def _translate(code: _Code, at: int, i: Classic, count: int) -> None:
    kind = i.code & 7
    if kind in (_LD, _LDX):
        _load(code, i)
    elif kind in (_ST, _STX):
        code.put(_STX_MEM, STACK, A if kind == _ST else X, MEMORY + 4 * i.k)
    elif kind == _ALU:
        _arithmetic(code, i)
    elif kind == _JMP:
        _jump(code, at, i, count)
    elif kind == _RET:
        if i.code & 0x18 == 0:
            code.put(_ALU32 | _MOV, A, imm=i.k)
        elif i.code & 0x18 != 0x10:
            raise _invalid(i)
        code.jump(DONE)
    else:
        to, of = (A, X) if i.code & 0x80 else (X, A)
        code.put(_ALU32 | _MOV | _BY_REGISTER, to, of)


def _load(code: _Code, i: Classic) -> None:
    to = A if i.code & 7 == _LD else X
    mode = i.code & 0xE0
    if mode == 0:
        code.put(_ALU32 | _MOV, to, imm=i.k)
    elif mode == _MEM:
        code.put(_LDX_MEM, to, STACK, MEMORY + 4 * i.k)
    elif mode == _LEN:
        code.put(_LDX_MEM, to, STACK, LENGTH)
    elif mode == _MSH and to == X:
        _read_at(code, X, i.k, 1)
        code.put(_ALU32 | _AND, X, imm=0xF)
        code.put(_ALU32 | _LSH, X, imm=2)
    elif mode in (_ABS, _IND) and to == A and (size := _SIZES.get(i.code & 0x18)):
        if mode == _ABS:
            _read_at(code, A, i.k, size)
        else:
            _read_behind_x(code, i.k, size)
    else:
        raise _invalid(i)


def _read_at(code: _Code, to: int, offset: int, size: int) -> None:
    if offset + size > MAX_OFFSET:
        # Always; the verifier refuses code that nothing leads to, so there is a condition.
        code.jump(REJECT, _JMP32 | _JGE, to)
        return
    code.put(_ALU64 | _MOV | _BY_REGISTER, AT, DATA)
    code.put(_ALU64 | _ADD, AT, imm=offset)
    _checked_read(code, to, size)


def _read_behind_x(code: _Code, offset: int, size: int) -> None:
    code.put(_ALU32 | _MOV | _BY_REGISTER, END_OF_READ, X)
    code.put(_ALU32 | _ADD, END_OF_READ, imm=offset)
    code.jump(REJECT, _JMP64 | _JGT, END_OF_READ, imm=MAX_OFFSET - size)
    code.put(_ALU64 | _MOV | _BY_REGISTER, AT, DATA)
    code.put(_ALU64 | _ADD | _BY_REGISTER, AT, END_OF_READ)
    _checked_read(code, A, size)


def _checked_read(code: _Code, to: int, size: int) -> None:
    code.put(_ALU64 | _MOV | _BY_REGISTER, END_OF_READ, AT)
    code.put(_ALU64 | _ADD, END_OF_READ, imm=size)
    code.jump(REJECT, _JMP64 | _JGT | _BY_REGISTER, END_OF_READ, DATA_END)
    code.put(_LDX_MEM | {4: 0x00, 2: 0x08, 1: 0x10}[size], to, AT)
    if size > 1:
        code.put(_TO_BE, to, imm=8 * size)


def _arithmetic(code: _Code, i: Classic) -> None:
    operation, by_register = i.code & 0xF0, i.code & _BY_REGISTER
    if operation not in _ALU_OPS:
        raise _invalid(i)
    if operation == _NEG:
        code.put(_ALU32 | _NEG, A)
        return
    if operation in (_DIV, _MOD):
        if by_register:
            code.jump(REJECT, _JMP32 | _JEQ, X)
        elif i.k == 0:
            raise _invalid(i)
    if by_register:
        code.put(_ALU32 | operation | _BY_REGISTER, A, X)
    else:
        code.put(_ALU32 | operation, A, imm=i.k)


def _jump(code: _Code, at: int, i: Classic, count: int) -> None:
    operation, by_register = i.code & 0xF0, i.code & _BY_REGISTER
    if operation == _JA:
        code.jump(_inside(at + 1 + i.k, count, i))
        return
    if operation not in _JUMP_OPS:
        raise _invalid(i)
    yes, no = _inside(at + 1 + i.jt, count, i), _inside(at + 1 + i.jf, count, i)
    how = _JMP32 | operation | by_register
    code.jump(yes, how, A, X if by_register else 0, 0 if by_register else i.k)
    if no != at + 1:
        code.jump(no)


def _inside(target: int, count: int, i: Classic) -> int:
    if target >= count:
        raise _invalid(i)
    return target
