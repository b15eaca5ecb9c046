"""Programs attached by more than their section: perf events, control groups, interfaces, maps
of sockets; and iterators read once."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gadget_build import compile_for_here
from support.waiting import wait_for

from ig_py._core import CoreError, Object
from ig_py.host.proc import HostView

pytestmark = pytest.mark.needs("root", "bpf", "btf", "clang")

SOFTWARE, CPU_CLOCK = 1, 0


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_for_here("core/families.bpf.c", tmp_path_factory.mktemp("families"))


@pytest.fixture
def families(elf: bytes) -> Iterator[Object]:
    obj = Object(elf, "families")
    obj.load()
    yield obj
    obj.close()


def counts(obj: Object) -> dict[int, int]:
    raw = obj.iterate("walk_counts", map="counts")
    return {key: value for key, value in struct.iter_unpack("=IQ", raw)}


def tasks(obj: Object, pid: int = 0) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack("=II", obj.iterate("walk_tasks", pid=pid)))


def talk() -> None:
    """One TCP connection with itself."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        peer, _ = server.accept()
        with peer:
            client.sendall(b"x")
            assert peer.recv(1) == b"x"


def test_iterators_of_tasks(families: Object) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        ours = tasks(families, os.getpid())
        # Ids of the initial pid namespace, which may not be this process's.
        assert len({tgid for tgid, _ in ours}) == 1
        assert len(ours) >= 2
        assert set(ours) < set(tasks(families))
    finally:
        done.set()
        thread.join()


def test_iterators_have_a_limit(families: Object) -> None:
    with pytest.raises(CoreError) as failure:
        families.iterate("walk_tasks", limit=8)
    assert failure.value.kind == "memory"
    assert "more than 8 bytes" in failure.value.message


def test_iterators_of_another_network_namespace(families: Object) -> None:
    def ports(netns: int | None = None) -> set[int]:
        return {
            port for (port,) in struct.iter_unpack("=H", families.iterate("walk_tcp", netns=netns))
        }

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in ports()
        keeper = subprocess.Popen(["unshare", "-n", "sleep", "100"])
        try:
            path = Path(f"/proc/{keeper.pid}/ns/net")
            own = Path("/proc/self/ns/net").stat().st_ino
            wait_for(lambda: path.stat().st_ino != own, "the namespace is there")
            fd = os.open(path, os.O_RDONLY)
            try:
                assert port not in ports(fd)
            finally:
                os.close(fd)
        finally:
            keeper.kill()
            keeper.wait()
        assert port in ports()


def test_programs_that_are_no_iterators_are_refused(families: Object) -> None:
    for program, options in (
        ("on_sample", {}),
        ("walk_counts", {}),
        ("walk_tcp", {"netns": -1}),
        ("no_such", {}),
    ):
        with pytest.raises(CoreError):
            families.iterate(program, **options)  # type: ignore[arg-type]
    with Path("/dev/null").open() as file, pytest.raises(CoreError) as failure:
        families.iterate("walk_tcp", netns=file.fileno())
    assert "network namespace" in failure.value.message


@pytest.mark.parametrize("rate", [{"frequency": 200}, {"period": 1_000_000}])
def test_samples_of_every_cpu(families: Object, rate: dict[str, int]) -> None:
    number = families.attach_perf_event("on_sample", SOFTWARE, CPU_CLOCK, **rate)

    def sampled() -> bool:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        return counts(families).get(1, 0) >= 5

    wait_for(sampled, "samples")
    assert families.release(number)
    assert not families.release(number)
    before = counts(families)[1]
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert counts(families)[1] <= before + 1


def test_perf_events_that_do_not_exist(families: Object) -> None:
    with pytest.raises(CoreError) as failure:
        families.attach_perf_event("on_sample", 4711, 0, frequency=10)
    assert failure.value.kind in ("attach", "unsupported")
    assert "on_sample" in failure.value.message


@pytest.mark.needs("cgroup2")
def test_control_groups(families: Object) -> None:
    mount = HostView().cgroup2_mount()
    families.attach_cgroup("on_sockops", mount)
    families.attach_cgroup("on_ingress", mount)
    talk()
    wait_for(lambda: {2, 3} <= counts(families).keys(), "both were run")
    with pytest.raises(CoreError) as failure:
        families.attach_cgroup("on_sockops", "/no/such/group")
    assert "/no/such/group" in failure.value.message


def test_maps_of_sockets(families: Object) -> None:
    for program in ("on_message", "on_stream"):
        number = families.attach_sockmap(program, "sockets")
        assert families.release(number)
        families.attach_sockmap(program, "sockets")
    with pytest.raises(CoreError):
        families.attach_sockmap("on_message", "counts")
    with pytest.raises(CoreError):
        families.attach_sockmap("on_message", "no_such_map")


def test_frames_of_an_interface(families: Object) -> None:
    number = families.attach_xdp("on_frame", socket.if_nametoindex("lo"))
    talk()
    wait_for(lambda: 4 in counts(families), "a frame")
    families.release(number)
    with pytest.raises(CoreError):
        families.attach_xdp("on_frame", 1 << 30)


def test_nothing_is_attached_after_close(elf: bytes) -> None:
    obj = Object(elf, "families")
    with pytest.raises(CoreError):
        obj.attach_xdp("on_frame", 1)
    obj.load()
    obj.attach_xdp("on_frame", socket.if_nametoindex("lo"))
    obj.attach_sockmap("on_message", "sockets")
    obj.attach_perf_event("on_sample", SOFTWARE, CPU_CLOCK, frequency=10)
    obj.close()
    with pytest.raises(CoreError) as failure:
        obj.attach_xdp("on_frame", 1)
    assert failure.value.kind == "closed"
    link = subprocess.run(["ip", "link", "show", "lo"], capture_output=True, text=True, check=True)
    assert "xdp" not in link.stdout
