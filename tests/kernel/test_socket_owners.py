"""Owners of sockets, as the kernel keeps them for gadgets (docs/sockets.md)."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from support import features
from support.bpf_ids import ids
from support.uring import Ring
from support.waiting import wait_for

from ig_py.gadget.sockets import FIXED_SIZE, Layout
from ig_py.host.proc import HostView
from ig_py.operators._socket_owners import SocketOwners, acquire

pytestmark = pytest.mark.needs("root", "bpf", "btf", "iter", "cgroup2", "tracepoint")

KEY = struct.Struct("=IHBxHxx")
OWNER = struct.Struct("=QQQ16s16sQQIIB")
LAYOUT = Layout(cwd=256, exepath=128)
V4, V6, TCP, UDP = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
PROTO = {TCP: 6, UDP: 17}
PID = os.getpid()


def inode(kind: str) -> int:
    return Path(f"/proc/self/ns/{kind}").stat().st_ino


class Owner:
    def __init__(self, raw: bytes) -> None:
        (self.mntns, pids, ids, comm, parent, self.sock, self.deleted, self.ppid, _, only) = (
            OWNER.unpack_from(raw)
        )
        self.pid, self.tid = pids >> 32, pids & 0xFFFFFFFF
        self.uid, self.gid = ids & 0xFFFFFFFF, ids >> 32
        self.comm, self.parent = comm.rstrip(b"\0"), parent.rstrip(b"\0")
        self.ipv6only = bool(only)
        self.paths = raw[FIXED_SIZE:]


def path(raw: bytes, at: int) -> str:
    return raw[at:].split(b"\0", 1)[0].decode()


def find(owners: SocketOwners, family: int, kind: int, port: int) -> Owner | None:
    raw = owners.map.lookup(KEY.pack(inode("net"), family, PROTO[kind], port))
    return Owner(raw) if raw else None


def owner_of(owners: SocketOwners, s: socket.socket) -> Owner | None:
    return find(owners, s.family, s.type, s.getsockname()[1])


def known(owners: SocketOwners, s: socket.socket) -> Owner:
    found = owner_of(owners, s)
    assert found is not None, f"{s} has no owner"
    return found


@pytest.fixture(scope="module")
def view() -> HostView:
    return HostView.from_env()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(True, id="trampolines", marks=pytest.mark.needs("fentry")),
        pytest.param(False, id="cgroups", marks=pytest.mark.any_kernel),
    ],
)
def owners(view: HostView, request: pytest.FixtureRequest) -> Iterator[SocketOwners]:
    with closing(SocketOwners(LAYOUT, 16384, view, trampolines=request.param)) as made:
        assert not made.walks and made.trampolines == request.param
        yield made


@contextmanager
def a_socket(family: int = V4, kind: int = TCP) -> Iterator[socket.socket]:
    with socket.socket(family, kind) as s:
        yield s


def bind(s: socket.socket) -> None:
    s.bind(("127.0.0.1" if s.family == V4 else "::1", 0))


def listen(s: socket.socket) -> None:
    s.listen()


def connect(s: socket.socket) -> None:
    with socket.socket(s.family) as server:
        bind(server)
        server.listen()
        s.connect(server.getsockname())


def join(s: socket.socket) -> None:
    s.connect(("127.0.0.1" if s.family == V4 else "::1", 9))


def send(s: socket.socket) -> None:
    s.sendto(b"x", ("127.0.0.1" if s.family == V4 else "::1", 9))


@pytest.mark.parametrize("family", [V4, V6])
@pytest.mark.parametrize(
    ("kind", "gets_its_port"),
    [(TCP, bind), (TCP, listen), (TCP, connect), (UDP, bind), (UDP, join), (UDP, send)],
)
def test_a_socket_that_gets_a_port(
    owners: SocketOwners, family: int, kind: int, gets_its_port: Callable[[socket.socket], None]
) -> None:
    with a_socket(family, kind) as s:
        gets_its_port(s)
        owner = known(owners, s)
    assert (owner.pid, owner.tid, owner.ppid) == (PID, PID, os.getppid())
    assert (owner.uid, owner.gid, owner.mntns) == (os.geteuid(), os.getegid(), inode("mnt"))
    assert owner.comm.decode() == Path("/proc/self/comm").read_text().removesuffix("\n")
    assert owner.parent.decode() == Path(f"/proc/{os.getppid()}/comm").read_text().removesuffix(
        "\n"
    )
    assert not owner.deleted
    assert path(owner.paths, 0) == str(Path.cwd())
    assert path(owner.paths, LAYOUT.cwd) == str(Path("/proc/self/exe").readlink())


def test_sockets_of_another_process(owners: SocketOwners) -> None:
    code = (
        "import os, socket\n"
        "os.setgid(12); os.setuid(34)\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "print(s.getsockname()[1], flush=True)\n"
        "input()"
    )
    argv = [sys.executable, "-P", "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        owner = find(owners, V4, TCP, port)
        process.communicate(b"\n")
    assert owner is not None
    assert (owner.pid, owner.ppid, owner.uid, owner.gid) == (process.pid, PID, 34, 12)
    assert path(owner.paths, 0) == "/"
    ended = find(owners, V4, TCP, port)
    assert ended is not None and ended.deleted


def test_closed_sockets_are_known_for_a_while(owners: SocketOwners) -> None:
    with a_socket() as s:
        bind(s)
        name = s.getsockname()
        before = known(owners, s)
    owner = find(owners, V4, TCP, name[1])
    assert owner is not None and owner.sock == before.sock and owner.deleted
    with a_socket() as s:
        s.bind(name)
        assert not known(owners, s).deleted


def test_a_socket_that_lost_its_port(owners: SocketOwners) -> None:
    """A socket that was reset or disconnected has no port any more when it is closed."""
    with a_socket() as server, a_socket() as s:
        bind(server)
        server.listen()
        s.connect(server.getsockname())
        port = s.getsockname()[1]
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        with pytest.raises(ConnectionResetError):
            s.recv(1)
    owner = find(owners, V4, TCP, port)
    assert owner is not None and owner.deleted
    with a_socket(V4, UDP) as s:
        join(s)
        port = s.getsockname()[1]
        libc_connect(s, struct.pack("=H14x", socket.AF_UNSPEC))
        assert s.getsockname()[1] == 0
        send(s)
        assert s.getsockname()[1] != port and known(owners, s).pid == PID
        owner = find(owners, V4, UDP, port)
        assert owner is not None and owner.deleted


def libc_connect(s: socket.socket, address: bytes) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(s.fileno(), address, len(address)) == 0


def test_a_listening_socket_keeps_its_port(owners: SocketOwners) -> None:
    with a_socket() as server, a_socket() as s:
        bind(server)
        server.listen()
        listener = known(owners, server).sock
        s.connect(server.getsockname())
        accepted, _ = server.accept()
        accepted.close()
        owner = known(owners, server)
        assert owner.sock == listener and not owner.deleted


def test_ipv6only_sockets_are_marked(owners: SocketOwners) -> None:
    for only in (True, False):
        with a_socket(V6, UDP) as s:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            s.bind(("::", 0))
            assert known(owners, s).ipv6only == only


def test_sockets_older_than_the_tracer(view: HostView) -> None:
    with ExitStack() as stack:
        there = [stack.enter_context(a_socket(f, k)) for f in (V4, V6) for k in (TCP, UDP)]
        for s in there:
            bind(s)
        unbound = stack.enter_context(a_socket())
        there[0].listen()
        client = stack.enter_context(a_socket())
        client.connect(there[0].getsockname())
        accepted = stack.enter_context(there[0].accept()[0])
        owners = stack.enter_context(closing(SocketOwners(Layout(), 16384, view, False)))
        for s in (*there, client, accepted):
            assert known(owners, s).pid == PID
        assert find(owners, V4, TCP, 0) is None
        # The listening socket owns the port that it shares with accepted connections.
        shared = known(owners, accepted)
        accepted.close()
        assert not known(owners, there[0]).deleted
        assert shared.sock == known(owners, there[0]).sock
        unbound.close()


@pytest.mark.needs("io_uring")
@pytest.mark.parametrize("polled", [False, True])
def test_connected_by_a_ring(owners: SocketOwners, polled: bool) -> None:
    with closing(Ring(polled)) as ring, a_socket(V4, UDP) as s:
        ring.connect(s, ("127.0.0.1", 9))
        assert s.getpeername() == ("127.0.0.1", 9)

        def found() -> Owner | None:
            owners.tick()
            return owner_of(owners, s)

        # Control groups do not see what a thread of the kernel does: the socket is looked for.
        seen = owners.trampolines or not polled
        owner = known(owners, s) if seen else wait_for(found, "the owner")
        assert owner.pid == PID


def crowd(owners: SocketOwners, stack: ExitStack) -> tuple[list[socket.socket], socket.socket]:
    """Sockets until the map is full, and the socket that found no room."""
    fit: list[socket.socket] = []
    for _ in range(500):
        s = stack.enter_context(a_socket(V4, UDP))
        bind(s)
        if owner_of(owners, s) is None:
            return fit, s
        fit.append(s)
    raise AssertionError("there is always room")


@pytest.mark.any_kernel
def test_when_there_is_no_more_room(view: HostView) -> None:
    with ExitStack() as stack:
        owners = stack.enter_context(closing(SocketOwners(Layout(), 200, view)))
        fit, late = crowd(owners, stack)
        assert owners.counts().full > 0
        fit[0].close()

        def found() -> bool:
            owners.tick()
            return owner_of(owners, late) is not None

        wait_for(found, "the owner of a socket that found no room")


def test_a_port_of_several_sockets(owners: SocketOwners) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(a_socket(V4, UDP)) for _ in range(2))
        for s in (first, second):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bind(first)
        one = known(owners, first).sock
        second.bind(first.getsockname())
        assert known(owners, first).sock != one
        second.close()

        def found() -> bool:
            owners.tick()
            owner = known(owners, first)
            return owner.sock == one and not owner.deleted

        wait_for(found, "the owner that is left")


@pytest.mark.any_kernel
def test_the_socket_closed_first_makes_room(view: HostView) -> None:
    with ExitStack() as stack:
        owners = stack.enter_context(closing(SocketOwners(Layout(), 200, view)))
        fit, _ = crowd(owners, stack)
        full = owners.counts().full
        lasting, *others = fit
        ports = [s.getsockname()[1] for s in others]
        for s in others:
            s.close()
        for _ in range(len(others) // 2):
            s = stack.enter_context(a_socket(V6, TCP))
            bind(s)
            known(owners, s)
        assert not known(owners, lasting).deleted
        assert owners.counts().full == full
        assert find(owners, V4, UDP, ports[0]) is None
        assert find(owners, V4, UDP, ports[-1]) is not None


def test_a_connection_outlives_its_listening_socket(owners: SocketOwners) -> None:
    with ExitStack() as stack:
        server, client = (stack.enter_context(a_socket()) for _ in range(2))
        bind(server)
        server.listen()
        client.connect(server.getsockname())
        accepted = stack.enter_context(server.accept()[0])
        listener = known(owners, server).sock
        server.close()

        def found() -> bool:
            owners.tick()
            owner = known(owners, accepted)
            return owner.sock != listener and not owner.deleted

        wait_for(found, "the owner of a connection")


@pytest.mark.any_kernel
def test_the_shared_owners_follow_sockets_and_unload(view: HostView) -> None:
    lease = acquire(LAYOUT, 200, view)
    programs = set(lease.owners._object.program_ids())
    with ExitStack() as stack:
        fit, late = crowd(lease.owners, stack)
        fit[0].close()
        wait_for(lambda: owner_of(lease.owners, late), "the owner of a socket, by the thread")
    lease.release()
    wait_for(lambda: not programs & ids("program").keys(), "the end of the programs")


@pytest.mark.any_kernel
def test_a_kernel_that_refuses_trampolines(view: HostView) -> None:
    if features.missing("fentry") is None:
        pytest.skip("only where there is no fentry")
    with closing(SocketOwners(Layout(), 200, view, trampolines=True)) as owners:
        assert not owners.trampolines and not owners.walks
        with a_socket() as s:
            bind(s)
            assert known(owners, s).pid == PID


@pytest.mark.any_kernel
def test_sockets_are_looked_for_where_no_hook_reports_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the root of the control groups, sockets are looked for."""
    view = HostView(str(tmp_path))
    monkeypatch.setattr(view, "cgroup2_mount", lambda: "")
    with ExitStack() as stack:
        owners = stack.enter_context(closing(SocketOwners(Layout(), 16384, view, False)))
        assert owners.walks and "looked for every 2 seconds" in caplog.text
        s = stack.enter_context(a_socket(V4, UDP))
        bind(s)
        port = s.getsockname()[1]
        assert find(owners, V4, UDP, port) is None

        def after_a_tick() -> Owner | None:
            owners.tick()
            return find(owners, V4, UDP, port)

        wait_for(lambda: after_a_tick() is not None, "the owner of a new socket")
        s.close()

        def ended() -> bool:
            owner = after_a_tick()
            return owner is None or owner.deleted != 0

        wait_for(ended, "the end of a socket")
