"""Expressions become code of a filter function, in front of its body."""

from __future__ import annotations

import random
import struct

import pytest

from ig_py.errors import ObjectError, UsageError
from ig_py.packetfilter.expression import Classic, compiled
from ig_py.packetfilter.translate import reject_all, translated

MASK = 0xFFFFFFFF


def classic(program: list[Classic], packet: bytes) -> bool:
    """The reference: classic BPF as Linux's socket filters run it."""
    a = x = at = 0
    memory = [0] * 16
    while True:
        i = program[at]
        at += 1
        kind, mode = i.code & 7, i.code & 0xE0
        size = {0: 4, 8: 2, 0x10: 1}.get(i.code & 0x18, 0)
        if kind in (0, 1):
            if mode == 0x00:
                value = i.k
            elif mode == 0x60:
                value = memory[i.k]
            elif mode == 0x80:
                value = len(packet)
            else:
                begin = (i.k + (x if mode == 0x40 else 0)) & MASK
                size = 1 if mode == 0xA0 else size
                if begin + size > len(packet):
                    return False
                value = int.from_bytes(packet[begin : begin + size], "big")
                value = (value & 15) * 4 if mode == 0xA0 else value
            a, x = (value, x) if kind == 0 else (a, value)
        elif kind in (2, 3):
            memory[i.k] = a if kind == 2 else x
        elif kind == 4:
            a = arithmetic(i.code & 0xF0, a, x if i.code & 8 else i.k)
        elif kind == 5:
            other = x if i.code & 8 else i.k
            if i.code & 0xF0 == 0:
                at += i.k
            else:
                yes = {0x10: a == other, 0x20: a > other, 0x30: a >= other, 0x40: a & other}
                at += i.jt if yes[i.code & 0xF0] else i.jf
        elif kind == 6:
            return bool(a if i.code & 0x18 else i.k)
        else:
            a, x = (x, x) if i.code & 0x80 else (a, a)


def arithmetic(operation: int, a: int, b: int) -> int:
    return {
        0x00: lambda: a + b,
        0x10: lambda: a - b,
        0x20: lambda: a * b,
        0x30: lambda: a // b,
        0x40: lambda: a | b,
        0x50: lambda: a & b,
        0x60: lambda: a << (b & 31),
        0x70: lambda: a >> (b & 31),
        0x80: lambda: -a,
        0x90: lambda: a % b,
        0xA0: lambda: a ^ b,
    }[operation]() & MASK


DATA, CONTEXT, FRAME = 1 << 32, 1 << 40, 1 << 48


def executed(code: bytes, packet: bytes) -> bool:
    """What the code leaves for the function's body, by a small machine of its own."""
    words = [struct.unpack_from("<BBhi", code, at) for at in range(0, len(code), 8)]
    r = [0] * 11
    r[1:4] = [CONTEXT] * 3
    r[4], r[5], r[10] = DATA, DATA + len(packet), FRAME
    stack: dict[int, int] = {}
    at = 0
    while at < len(words):
        op, registers, off, imm = words[at]
        at += 1
        dst, src = registers & 15, registers >> 4
        kind, operation = op & 7, op & 0xF0
        b = r[src] if op & 8 else imm
        if kind == 7:
            r[dst] = (r[dst] + b if operation == 0 else b) & (1 << 64) - 1
        elif op == 0xDC:
            width = imm // 8
            r[dst] = int.from_bytes((r[dst] % (1 << imm)).to_bytes(width, "little"), "big")
        elif kind == 4:
            value = b if operation == 0xB0 else None
            a = r[dst] & MASK
            r[dst] = value & MASK if value is not None else arithmetic(operation, a, b & MASK)
        elif kind in (5, 6):
            mask = MASK if kind == 6 else (1 << 64) - 1
            left, right = r[dst] & mask, b & mask
            taken = {
                0x00: True,
                0x10: left == right,
                0x20: left > right,
                0x30: left >= right,
                0x40: bool(left & right),
            }
            at += off if taken[operation] else 0
        elif kind == 1:
            place = r[src] + off
            size = {0: 4, 8: 2, 0x10: 1}[op & 0x18]
            if r[src] == CONTEXT:
                r[dst] = len(packet)
            elif r[src] == FRAME:
                r[dst] = stack[off]
            else:
                assert DATA <= place <= place + size <= DATA + len(packet), "read outside"
                begin = place - DATA
                r[dst] = int.from_bytes(packet[begin : begin + size], "little")
        else:
            stack[off] = r[src] & MASK
    assert r[1] == r[2] == r[3]
    return r[4] != r[5]


EXPRESSIONS = (
    "",
    "tcp",
    "udp and dst port 53",
    "ip6 and tcp port 443",
    "host 10.0.0.1 or net 192.168.0.0/16",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "ip[2:2] - ((ip[0] & 0xf) << 2) > 20",
    "len > 60 and udp[8:4] = 0x78787878",
    "ether[100000] = 1 or arp",
    "greater 100 and not icmp",
    "vlan and ip",
    "ip[ip[9]] % 3 = 1 and ip[8] / ip[9] > 2",
    "portrange 1-1024",
)


def packets() -> list[bytes]:
    source = random.Random(7)
    made = []
    for protocol in (6, 17, 1):
        for length in (0, 1, 13, 14, 33, 34, 42, 54, 60, 61, 128, 1500):
            header = bytes(12) + source.choice([b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00"])
            words = [0x45 + source.randrange(3), 0, 0, 100, 0, 0, 0, 0, 64, protocol, 0, 0]
            body = bytes([*words, 10, 0, 0, 1, 192, 168, 1, 9, 0, 53, 0, 53])
            rest = bytes(source.choice(b"x\0\1") for _ in range(1500))
            made.append((header + body + rest)[:length])
    return made


@pytest.mark.needs("libpcap")
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_it_decides_as_classic_bpf(text: str) -> None:
    program = compiled(text, "--pf")
    code = translated(program)
    for packet in packets():
        assert executed(code, packet) == classic(program, packet), packet


def test_random_programs_decide_alike() -> None:
    source = random.Random(11)
    loads = [0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x00, 0x01, 0x60, 0x61, 0x80, 0x81, 0xB1]
    sums = [
        0x04,
        0x0C,
        0x14,
        0x1C,
        0x24,
        0x2C,
        0x34,
        0x44,
        0x4C,
        0x54,
        0x5C,
        0x84,
        0x94,
        0xA4,
        0xAC,
    ]
    for _ in range(60):
        program = []
        for at in range(30):
            left = 29 - at
            code = source.choice(
                [*loads, *sums, 0x02, 0x03, 0x07, 0x87, 0x15, 0x1D, 0x25, 0x3D, 0x45]
            )
            k = source.choice([0, 1, 2, 7, 12, 60, 0xFFFFFFFF, 1 << 31, 70_000])
            if code in (0x02, 0x03, 0x60, 0x61):
                k %= 16
            if code in (0x34, 0x94):
                k = k or 3
            program.append(Classic(code, source.randrange(left + 1), source.randrange(left + 1), k))
        program.append(Classic(0x16, 0, 0, 0))
        code_of_it = translated(program)
        for packet in packets()[::5]:
            assert executed(code_of_it, packet) == classic(program, packet), program


def test_nothing_passes_the_word_for_it() -> None:
    assert not any(executed(reject_all(), packet) for packet in packets())


@pytest.mark.needs("libpcap")
@pytest.mark.parametrize("text", ["dst prot 1", "udp and", "\udc80", "x" * 5000, "tcp\0"])
def test_invalid_expressions_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--pf"):
        compiled(text, "--pf")


@pytest.mark.parametrize(
    "program",
    [
        [Classic(0x05, 0, 0, 9)],
        [Classic(0x15, 200, 0, 1), Classic(0x06, 0, 0, 1)],
        [Classic(0x34, 0, 0, 0), Classic(0x06, 0, 0, 1)],
        [Classic(0x02, 0, 0, 16), Classic(0x06, 0, 0, 1)],
        [Classic(0xF4, 0, 0, 16), Classic(0x06, 0, 0, 1)],
    ],
)
def test_invalid_programs_are_refused(program: list[Classic]) -> None:
    with pytest.raises(ObjectError):
        translated(program)
