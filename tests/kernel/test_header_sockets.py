"""gadget/sockets-map.h and packetfilter.h: the owners of packets and sockets. With packets
made by the test, compiled by each clang."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import bpf_syscall
from support.bpf_ids import ids
from support.compilers import clang_params, require_release
from support.gadget_build import header_object

from ig_py._core import Map, Object
from ig_py.gadget.elf import Elf
from ig_py.toolchain.clang import Clang

pytestmark = pytest.mark.needs("root", "bpf", "btf", "clang")

HASH, BPF_PROG_TEST_RUN, BPF_PROG_GET_FD_BY_ID = 1, 10, 13
TEST_RUN = struct.Struct("=IIIIQQIIIIQQ")
SKB_SIZE, SKB_CB = 192, 48

NETNS, PID, LOCAL, REMOTE = 4026531840, 77, 8443, 40000
KEY = struct.Struct("=IHBxHxx")
OWNER = struct.Struct("=QQQ16s16sQQIIB")
OWNER_SIZE = 8280
TCP, UDP, ICMP = 6, 17, 1
HOP, ROUTING, FRAGMENT, AUTH, NONE, DEST = 0, 43, 44, 51, 59, 60
DISCARDED = 0xFFFF


def key(family: int, proto: int, port: int, netns: int = NETNS) -> bytes:
    return KEY.pack(netns, family, proto, port)


def owner(pid: int = PID, ipv6only: bool = False) -> bytes:
    raw = OWNER.pack(9, pid << 32 | pid, 2 << 32 | 1, b"owner", b"parent", 0, 0, 1, 1, ipv6only)
    return raw.ljust(OWNER_SIZE, b"\0")


def ethernet(ethertype: int, rest: bytes) -> bytes:
    return bytes(12) + struct.pack("!H", ethertype) + rest.ljust(64, b"\0")


def ports(source: int = REMOTE, dest: int = LOCAL) -> bytes:
    return struct.pack("!HH", source, dest)


def ipv4(proto: int, rest: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    head = 0x40 | 5 + len(options) // 4
    return ethernet(
        0x0800,
        struct.pack("!BBHHHBBHII", head, 0, 60, 0, fragment, 64, proto, 0, 1, 2) + options + rest,
    )


def ipv6(rest: bytes, *extensions: tuple[int, bytes], last: int = TCP) -> bytes:
    numbers = [number for number, _ in extensions] + [last]
    chain = b"".join(
        bytes([following]) + body
        for (_, body), following in zip(extensions, numbers[1:], strict=True)
    )
    return ethernet(
        0x86DD, struct.pack("!IHBB", 6 << 28, 60, numbers[0], 64) + bytes(32) + chain + rest
    )


SHORT = b"\0" + bytes(6)  # an extension of 8 bytes
LONG = b"\x02" + bytes(22)  # of 24
AUTHENTICATION = b"\x04" + bytes(22)  # of 4 * (4 + 2)


def fragment(offset: int) -> bytes:
    return b"\0" + struct.pack("!HI", offset << 3 | 1, 5)


class Packets:
    """The programs of networking.bpf.c with one socket of each family and protocol."""

    def __init__(self, elf: bytes, variables: dict[str, bytes]):
        self.object = Object(elf, "packets")
        places = {symbol.name: symbol.value for symbol in Elf(elf, "packets").symbols}
        for name, value in variables.items():
            self.object.set_data(".rodata", places[name], value)
        self.sockets = Map.create("gadget_sockets", HASH, KEY.size, OWNER_SIZE, 16384)
        self.object.reuse_map("gadget_sockets", self.sockets)
        self.object.load()
        own = self.object.program_ids()
        self.programs = {name: number for number, name in ids("program").items() if number in own}

    def run(self, program: str, packet: bytes, netns: int = NETNS) -> int:
        """What *program* returns for *packet*."""
        fd = bpf_syscall.call(
            BPF_PROG_GET_FD_BY_ID, struct.pack("=III", self.programs[program], 0, 0)
        )
        context = bytearray(SKB_SIZE)
        struct.pack_into("=I", context, SKB_CB, netns)
        data = ctypes.create_string_buffer(packet, len(packet))
        ctx = ctypes.create_string_buffer(bytes(context), len(context))
        attributes = TEST_RUN.pack(
            *(fd, 0, len(packet), 0, ctypes.addressof(data), 0),
            *(1, 0, len(context), 0, ctypes.addressof(ctx), 0),
        )
        try:
            _, answer = bpf_syscall.exchange(BPF_PROG_TEST_RUN, attributes)
        finally:
            os.close(fd)
        return int(TEST_RUN.unpack_from(answer)[1])

    def close(self) -> None:
        self.object.close()
        self.sockets.close()


@pytest.fixture(scope="module", params=clang_params())
def clang(request: pytest.FixtureRequest) -> Clang:
    return require_release(request.param)


@pytest.fixture(scope="module")
def elf(clang: Clang, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return header_object("networking", clang, tmp_path_factory.mktemp("packets"))


@pytest.fixture(scope="module")
def known(elf: bytes) -> Iterator[Packets]:
    packets = Packets(elf, {})
    for family in (socket.AF_INET, socket.AF_INET6):
        for proto in (TCP, UDP):
            packets.sockets.update(key(family, proto, LOCAL), owner())
    yield packets
    packets.close()


Received = Callable[[bytes], int]


@pytest.fixture
def received(known: Packets) -> Received:
    return lambda packet: known.run("receiver", packet)


def test_the_direction_selects_the_local_port(known: Packets) -> None:
    incoming, outgoing = ipv4(TCP, ports()), ipv4(TCP, ports(LOCAL, REMOTE))
    assert known.run("receiver", incoming) == known.run("sender", outgoing) == PID
    assert known.run("receiver", outgoing) == known.run("sender", incoming) == 0


def test_ports_belong_to_a_network_namespace(known: Packets) -> None:
    assert known.run("receiver", ipv4(TCP, ports()), netns=NETNS + 1) == 0


@pytest.mark.parametrize(
    ("packet", "found"),
    [
        (ipv4(UDP, ports()), True),
        (ipv4(ICMP, ports()), False),
        (ipv4(TCP, ports(), options=bytes(40)), True),
        (ipv4(TCP, ports(), options=bytes(4)), True),
        (ipv4(UDP, ports(), fragment=0x2000), True),  # the first of several
        (ipv4(UDP, ports(), fragment=0x4000), True),  # not to be fragmented
        (ipv4(UDP, ports(), fragment=1), False),
        (ipv4(UDP, ports(), fragment=0x2100), False),
        (ethernet(0x0806, bytes(28)), False),
    ],
)
def test_ipv4(received: Received, packet: bytes, found: bool) -> None:
    assert received(packet) == (PID if found else 0)


@pytest.mark.parametrize(
    ("packet", "found"),
    [
        (ipv6(ports()), True),
        (ipv6(ports(), last=UDP), True),
        (ipv6(ports(), last=NONE), False),
        (ipv6(ports(), last=58), False),
        (ipv6(ports(), (HOP, SHORT)), True),
        (ipv6(ports(), (HOP, LONG), (DEST, SHORT), (ROUTING, LONG)), True),
        (ipv6(ports(), (AUTH, AUTHENTICATION), (DEST, SHORT), last=UDP), True),
        (ipv6(ports(), (FRAGMENT, fragment(0))), True),
        (ipv6(ports(), (HOP, SHORT), (FRAGMENT, fragment(1))), False),
        (ipv6(ports(), (FRAGMENT, fragment(0x1FFF))), False),
        (ipv6(ports(), *[(DEST, SHORT)] * 6), True),
        (ipv6(ports(), *[(DEST, SHORT)] * 7), False),
        (ipv6(b"", (DEST, b"\xff" + bytes(6))), False),  # longer than the packet
    ],
)
def test_ipv6(received: Received, packet: bytes, found: bool) -> None:
    assert received(packet) == (PID if found else 0)


@pytest.mark.parametrize("size", [34, 36, 37])
def test_truncated_packets_have_no_owner(received: Received, size: int) -> None:
    """An IPv4 packet has its destination port at bytes 36 and 37."""
    assert received(ipv4(TCP, ports())[:size]) == 0


@pytest.mark.parametrize(("only", "pid"), [(False, PID), (True, 0)])
def test_ipv6_sockets_take_ipv4_packets(elf: bytes, only: bool, pid: int) -> None:
    packets = Packets(elf, {})
    try:
        packets.sockets.update(key(socket.AF_INET6, TCP, LOCAL), owner(ipv6only=only))
        assert packets.run("receiver", ipv4(TCP, ports())) == pid
        assert packets.run("receiver", ipv6(ports())) == PID
    finally:
        packets.close()


def test_filters_by_the_owner(elf: bytes) -> None:
    for target, mine, others in ((PID, PID, DISCARDED), (PID + 1, DISCARDED, DISCARDED)):
        packets = Packets(elf, {"targ_pid": struct.pack("=I", target)})
        try:
            packets.sockets.update(key(socket.AF_INET, TCP, LOCAL), owner())
            assert packets.run("receiver", ipv4(TCP, ports())) == mine
            assert packets.run("receiver", ipv4(UDP, ports())) == others
        finally:
            packets.close()


def test_sockets_of_the_kernel(clang: Clang, tmp_path: Path) -> None:
    elf = header_object("sockets", clang, tmp_path)
    obj = Object(elf, "sockets")
    sockets = Map.create("gadget_sockets", HASH, KEY.size, OWNER_SIZE, 16384)
    netns = Path("/proc/self/ns/net").stat().st_ino
    place = next(s.value for s in Elf(elf, "sockets").symbols if s.name == "netns")
    obj.set_data(".rodata", place, struct.pack("=I", netns))
    obj.reuse_map("gadget_sockets", sockets)
    obj.load()
    try:
        with socket.create_server(("127.0.0.1", 0)) as v4:
            port = v4.getsockname()[1]
            sockets.update(key(socket.AF_INET, TCP, port, netns), owner(3))
            sockets.update(key(socket.AF_INET, UDP, port, netns), owner(4))
            sockets.update(key(socket.AF_INET6, TCP, port, netns), owner(5))
            sockets.update(key(socket.AF_INET, TCP, port, netns + 1), owner(6))
            found = [pid for (pid,) in struct.iter_unpack("=4xI", obj.iterate("owners"))]
        assert found == [3]
    finally:
        obj.close()
