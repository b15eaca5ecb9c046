"""The host's /proc: namespaces, pinned processes, another root; the reactor that watches them."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.waiting import deadline, wait_for

from ig_py.containers.engines.config import why_missing
from ig_py.containers.inits import init_of_cgroup
from ig_py.errors import ContainerError
from ig_py.host import proc
from ig_py.host.proc import HostView, ProcessGone
from ig_py.host.reactor import Reactor


def descriptors() -> int:
    # Objects of earlier tests that wait for the collector hold some.
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_open_process_is_pinned() -> None:
    before = descriptors()
    child = subprocess.Popen(["sleep", "300"])
    try:
        process = HostView().open(child.pid)
        assert process.mntns == Path(f"/proc/{child.pid}/ns/mnt").stat().st_ino
        assert process.netns == os.fstat(process.pins.net_fd).st_ino
        assert proc.alive(process.pidfd)
        child.kill()
        child.wait()
        assert not proc.alive(process.pidfd)
        assert os.fstat(process.pins.mnt_fd).st_ino == process.mntns
        process.close()
    finally:
        child.kill()
        child.wait()
    assert descriptors() == before


@pytest.mark.parametrize("pid", [0, -1, 2**31 - 1])
def test_no_such_process(pid: int) -> None:
    before = descriptors()
    with pytest.raises(ProcessGone):
        HostView().open(pid)
    assert descriptors() == before


def test_why_a_socket_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_missing(str(tmp_path)) == ""
    assert why_missing(str(tmp_path / "x")) == "no such socket"
    (tmp_path / "file").touch()
    assert why_missing(str(tmp_path / "file/x")) == "no such socket"
    assert why_missing(f"{tmp_path}/{'x' * 300}") == "File name too long"

    def refuse(_path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    assert why_missing("/run/docker.sock") == "Permission denied"


def test_a_zombie_is_gone() -> None:
    before = descriptors()
    child = subprocess.Popen(["true"])
    wait_for(lambda: HostView().status(child.pid).get("State", "")[:1] == "Z", "zombie", 5, 0.01)
    with pytest.raises(ProcessGone):
        HostView().open(child.pid)
    child.wait()
    assert descriptors() == before


def test_out_of_descriptors_is_not_taken_for_an_exit() -> None:
    program = (
        "import os, resource\n"
        "from ig_py.host.proc import HostView, ProcessGone\n"
        "from ig_py.errors import ContainerError\n"
        "view = HostView(); view.open(os.getpid()).close()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
        "try: view.open(os.getpid())\n"
        "except ProcessGone: raise SystemExit('taken for an exit')\n"
        "except ContainerError as error: assert 'limit' in str(error), error\n"
        "else: raise SystemExit('opened')\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=60)


def test_pids_of_another_namespace_are_known_as_such(tmp_path: Path) -> None:
    assert HostView().same_pidns
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tx\nNSpid:\t4711\t12\n")
    assert not HostView(str(tmp_path)).same_pidns
    assert not HostView(str(tmp_path / "nowhere")).same_pidns
    assert HostView().own_pid == os.getpid()
    assert HostView(str(tmp_path)).own_pid == 0
    (tmp_path / "in_container/proc").mkdir(parents=True)
    (tmp_path / "in_container/proc/self").symlink_to("4711")
    assert HostView(str(tmp_path / "in_container")).own_pid == 4711


def test_without_a_host_below_the_root(tmp_path: Path) -> None:
    HostView().require()
    with pytest.raises(ContainerError, match=r"there is no .*proc of the host"):
        HostView(str(tmp_path)).require()


@pytest.mark.parametrize(
    ("root", "remedy"),
    [("/", "mount proc at /proc, or set HOST_ROOT"), ("/host", "--volume /:/host")],
)
def test_a_host_that_may_not_be_looked_at(
    monkeypatch: pytest.MonkeyPatch, root: str, remedy: str
) -> None:
    really = os.stat

    def refuse(path: str, **options: Any) -> os.stat_result:
        if str(path).endswith(("/proc/self/status", "/cgroup.controllers")):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return really(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(ContainerError) as raised:
        HostView(root).require()
    assert remedy in raised.value.remedy
    assert HostView(root).cgroup2_mount() == ""


def test_cgroup_paths(tmp_path: Path) -> None:
    directory = tmp_path / "proc/7"
    directory.mkdir(parents=True)
    (directory / "cgroup").write_text(
        "9:name=systemd:/docker/abc\n8:pids:/x:y\n0::/\n", encoding="utf-8"
    )
    found = HostView(str(tmp_path)).cgroups(7)
    assert (found.v1, found.v2) == ("/docker/abc", "")
    (directory / "cgroup").write_text("0::/kubepods/pod1/abc\n")
    assert HostView(str(tmp_path)).cgroups(7).v2 == "/kubepods/pod1/abc"
    assert HostView(str(tmp_path)).cgroups(8) == proc.Cgroups()


def test_a_path_stays_below_the_host_root(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "run/docker.sock").symlink_to("../../../../real/docker.sock")
    (tmp_path / "loop").symlink_to("loop")
    view = HostView(str(tmp_path))
    assert view.path("/var/run/docker.sock") == f"{tmp_path}/real/docker.sock"
    assert view.path("/run/../../x") == f"{tmp_path}/x"
    assert HostView().path("/run/docker.sock") == "/run/docker.sock"
    with pytest.raises(ContainerError, match="too many symlinks"):
        view.path("/loop")


def fake_process(root: Path, pid: int, ppid: int, name: str, mntns: Path, nspid: str = "") -> None:
    directory = root / "proc" / str(pid)
    (directory / "ns").mkdir(parents=True)
    (directory / "status").write_text(
        f"Name:\t{name}\nPPid:\t{ppid}\nNSpid:\t{nspid or pid}\n", encoding="utf-8"
    )
    (directory / "ns/mnt").symlink_to(mntns)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for name in ("host", "new", "other", "cgroup"):
        (tmp_path / name).mkdir()
    fake_process(tmp_path, 10, 1, "containerd-shim", tmp_path / "host")
    return tmp_path


def init_of(root: Path, *pids: int) -> int | None:
    (root / "cgroup/cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return init_of_cgroup(HostView(str(root)), str(root / "cgroup"))


def test_init_is_distinguished_from_the_runtime(host: Path) -> None:
    assert init_of(host) is None
    fake_process(host, 20, 10, "runc:[0:PARENT]", host / "host")
    fake_process(host, 21, 10, "runc:[1:CHILD]", host / "new")
    assert init_of(host, 20, 21, 999) is None
    fake_process(host, 22, 10, "runc:[2:INIT]", host / "new", "22\t1")
    assert init_of(host, 20, 21, 22) == 22


def test_init_before_it_has_a_mount_namespace(host: Path) -> None:
    fake_process(host, 22, 10, "crun", host / "host", "22\t1")
    assert init_of(host, 22) is None


def test_init_among_its_children_and_executed_commands(host: Path) -> None:
    fake_process(host, 22, 10, "sh", host / "new", "22\t1")
    fake_process(host, 23, 22, "child", host / "new", "23\t2")
    fake_process(host, 24, 10, "exec", host / "new", "24\t3")
    fake_process(host, 25, 22, "nested", host / "other", "25\t4\t1")
    assert init_of(host, 22, 23, 24, 25) == 22


def test_init_with_the_hosts_pid_namespace(host: Path) -> None:
    fake_process(host, 22, 10, "sh", host / "new")
    fake_process(host, 23, 22, "child", host / "new")
    assert init_of(host, 22, 23) == 22
    fake_process(host, 24, 10, "exec", host / "new")
    assert init_of(host, 22, 23, 24) is None


def test_a_crowd_is_left_to_the_engine(host: Path) -> None:
    fake_process(host, 22, 10, "sh", host / "new", "22\t1")
    assert init_of(host, 22, *range(1000, 3000)) is None


def test_timers_fire_in_order_and_failures_do_not_end_the_reactor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reactor = Reactor("test-reactor")
    calls: list[int] = []
    done = threading.Event()

    def fail() -> None:
        raise ValueError("expected")

    reactor.later(0.05, lambda: (calls.append(2), done.set()))
    reactor.later(0.02, fail)
    reactor.later(0.01, lambda: calls.append(1))
    reactor.soon(lambda: calls.append(0))
    reactor.start()
    assert done.wait(5)
    reactor.stop()
    reactor.stop()
    assert calls == [0, 1, 2]
    assert "expected" in caplog.text


def test_the_reactor_watches_and_forgets_descriptors() -> None:
    before = descriptors()
    reactor = Reactor("test-reactor")
    reactor.start()
    reading, writing = os.pipe()
    got: list[bytes] = []

    def read() -> None:
        got.append(os.read(reading, 10))
        reactor.unwatch(reading)

    reactor.watch(reading, read)
    os.write(writing, b"x")
    wait_for(lambda: got, "read", 5, 0.01)
    os.write(writing, b"y")
    reactor.unwatch(12345)
    fired = threading.Event()
    reactor.soon(fired.set)
    assert fired.wait(5)
    assert got == [b"x"]
    reactor.stop()
    os.close(reading)
    os.close(writing)
    assert descriptors() == before


def test_a_stopped_reactor_is_quick_and_ignores_later_work() -> None:
    before = descriptors()
    reactor = Reactor("test-reactor")
    reactor.start()
    reactor.later(3600, lambda: None)
    begun = time.monotonic()
    reactor.stop()
    assert time.monotonic() - begun < deadline(0.5)
    reactor.later(0, lambda: pytest.fail("called after stop"))
    reactor.watch(0, lambda: None)
    assert descriptors() == before
    never_started = Reactor("test-reactor")
    never_started.stop()
    assert descriptors() == before
