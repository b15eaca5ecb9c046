"""Classifiers that let a packet pass leave it to the classifiers behind them.

``TC_ACT_OK`` ends a packet's way through an interface's classifiers: a gadget that returns it would
switch off the filters of a container network, and other tracers. Here the return value becomes
``TC_ACT_UNSPEC``: the next classifier decides, and where there is none the packet passes. Return
values that drop or redirect a packet stay as they are (include/uapi/linux/pkt_cls.h; kernel
net/core/dev.c, tcx_run()).
"""

from __future__ import annotations

import struct

from ig_py.gadget.elf import STT_FUNC, Elf
from ig_py.gadget.insn import SIZE, Code
from ig_py.gadget.sections import bare
from ig_py.packetfilter.insertion import inserted

SECTION = "classifier/"
_JA, _JNE_IMM, _MOV_IMM, _EXIT = 0x05, 0x55, 0xB7, 0x95
_TC_ACT_OK, _TC_ACT_UNSPEC = 0, -1
_FARTHEST = 1 << 15
"""Most instructions that a jump goes back: its distance is a signed 16-bit number."""


def _instruction(opcode: int, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", opcode, 0, off, imm)


_HEAD = (
    _instruction(_JA, 3)
    + _instruction(_JNE_IMM, 1, _TC_ACT_OK)
    + _instruction(_MOV_IMM, 0, _TC_ACT_UNSPEC)
    + _instruction(_EXIT)
)
_END = SIZE
"""Offset in *_HEAD*, in bytes, to which each exit of the program jumps."""


def passing_on(obj: bytes, source: str) -> bytes:
    """*obj* with classifiers that pass packets on; *obj* itself when it has no classifier.

    An exit that is out of reach of a jump (16 bits) keeps its return value.

    Raises:
        ObjectError: The object is malformed.
        LimitError: It is too large.
    """
    if SECTION.encode() not in obj:
        return obj
    classifiers = [
        p for p in Code(Elf(obj, source)).programs() if bare(p.section).startswith(SECTION)
    ]
    for name in [program.name for program in classifiers]:
        obj = _passing_on(inserted(obj, name, _HEAD, source), name, source)
    return obj


def _passing_on(obj: bytes, name: str, source: str) -> bytes:
    elf = Elf(obj, source)
    home = next(s.section for s in elf.symbols if s.type == STT_FUNC and s.name == name)
    changed = bytearray(obj)
    body = Code(elf).functions[name].instructions
    for ins in body[len(_HEAD) // SIZE :]:
        distance = (ins.offset + SIZE - body[0].offset - _END) // SIZE
        if ins.opcode == _EXIT and distance <= _FARTHEST:
            at = elf.sections[home].offset + ins.offset
            changed[at : at + SIZE] = _instruction(_JA, -distance)
    return bytes(changed)
