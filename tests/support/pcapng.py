"""Reading captures: pcapng blocks, as the format's draft has them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

SECTION = 0x0A0D0D0A
INTERFACE = 1
PACKET = 6
ETHERNET = 1
_NAME, _DESCRIPTION, _TIME_UNIT = 2, 3, 9
_NANOSECONDS = b"\x09"


@dataclass(frozen=True)
class Interface:
    name: str
    description: str


@dataclass(frozen=True)
class Packet:
    """*at*: nanoseconds since the epoch; *length*: of the packet, before it was cut."""

    interface: Interface
    at: int
    data: bytes
    length: int


@dataclass
class Capture:
    interfaces: list[Interface] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)


def read(data: bytes) -> Capture:
    """Everything in one section; AssertionError for what a reader would stumble over."""
    capture = Capture()
    kinds = []
    for kind, body in _blocks(data):
        kinds.append(kind)
        if kind == SECTION:
            magic, major, minor, length = struct.unpack_from("<IHHq", body)
            assert (magic, major, minor, length) == (0x1A2B3C4D, 1, 0, -1)
        elif kind == INTERFACE:
            link, _reserved, snaplen = struct.unpack_from("<HHI", body)
            assert (link, snaplen) == (ETHERNET, 262144)
            options = dict(_options(body[8:]))
            assert options[_TIME_UNIT] == _NANOSECONDS
            name, described = options[_NAME], options.get(_DESCRIPTION, b"")
            capture.interfaces.append(Interface(name.decode(), described.decode()))
        else:
            assert kind == PACKET
            number, high, low, captured, length = struct.unpack_from("<IIIII", body)
            assert captured <= length
            assert len(body) - 20 - captured in range(4)
            capture.packets.append(
                Packet(
                    capture.interfaces[number],
                    high << 32 | low,
                    body[20 : 20 + captured],
                    length,
                )
            )
    assert kinds[:2] == [SECTION, INTERFACE]
    assert kinds.count(SECTION) == 1
    return capture


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        kind, total = struct.unpack_from("<II", data)
        assert total % 4 == 0
        assert total <= len(data), "a block is cut off"
        assert struct.unpack_from("<I", data, total - 4)[0] == total
        yield kind, data[8 : total - 4]
        data = data[total:]


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    while True:
        code, length = struct.unpack_from("<HH", data)
        if code == 0:
            return
        yield code, data[4 : 4 + length]
        data = data[4 + (length + 3) // 4 * 4 :]
