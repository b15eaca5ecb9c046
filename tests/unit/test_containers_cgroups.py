"""The cgroup watch on ordinary directories, for which inotify works the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.waiting import wait_for

from ig_py.containers import cgroup_watch
from ig_py.containers.cgroup_watch import CgroupWatch
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

ID = "46468c4fb7aab4f6b4b1308e13c0aba2f0942fef8d4b1c0c3c928b4ca73c73b"


class Host:
    """A host below a directory: its cgroups, its processes, and a watch that looks at them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cgroup = root / "sys/fs/cgroup"
        self.cgroup.mkdir(parents=True)
        for name in ("host", "new"):
            (root / name).mkdir()
        self.process(10, 1, "containerd-shim", "host")
        self.found: list[tuple[str, int]] = []
        self._reactor: Reactor | None = None
        self._watch: CgroupWatch | None = None

    def process(self, pid: int, ppid: int, name: str, mntns: str, nspid: str = "") -> None:
        directory = self.root / "proc" / str(pid)
        (directory / "ns").mkdir(parents=True)
        (directory / "status").write_text(f"Name:\t{name}\nPPid:\t{ppid}\nNSpid:\t{pid}{nspid}\n")
        (directory / "ns/mnt").symlink_to(self.root / mntns)

    def watch(self, *, same_pidns: bool = True) -> CgroupWatch:
        view = HostView(str(self.root))
        view.__dict__["same_pidns"] = same_pidns
        self._reactor = Reactor("test-watch")
        self._watch = CgroupWatch(
            view, self._reactor, lambda id, pid, *_: self.found.append((id[-1], pid))
        )
        self._watch.start()
        self._reactor.start()
        return self._watch

    def container(self, path: str, *pids: int) -> Path:
        directory = self.cgroup / path
        directory.mkdir(parents=True)
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return directory

    def until(self, *found: tuple[str, int]) -> None:
        wait_for(lambda: set(self.found) == set(found), f"{found}", 5, 0.005)

    def close(self) -> None:
        if self._reactor and self._watch:
            self._reactor.stop()
            self._watch.stop()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


def v2(host: Host) -> str:
    (host.cgroup / "cgroup.controllers").touch()
    return ""


def v1(host: Host) -> str:
    for name in ("pids", "systemd"):
        (host.cgroup / name).mkdir()
        (host.cgroup / name / "cgroup.procs").touch()
    return "pids/"


@pytest.mark.parametrize("layout", [v1, v2])
def test_containers_before_during_and_after_the_first_directory(
    host: Host, layout: Callable[[Host], str]
) -> None:
    prefix = layout(host)
    for pid in (21, 22, 23, 24):
        host.process(pid, 10, "runc:[2:INIT]", "new", "\t1")
    host.container(f"{prefix}system.slice/docker-{ID}1.scope", 21)
    host.watch()
    host.until(("1", 21))
    host.container(f"{prefix}docker/{ID}2", 22)
    host.until(("1", 21), ("2", 22))
    host.container(f"{prefix}docker/{ID}3", 23)
    host.container(f"{prefix}system.slice/docker-{ID}4.scope", 24)
    host.until(("1", 21), ("2", 22), ("3", 23), ("4", 24))


def test_init_that_comes_after_its_directory(host: Host) -> None:
    v2(host)
    host.watch()
    directory = host.container(f"docker/{ID}1")
    host.process(20, 10, "runc:[0:PARENT]", "host")
    (directory / "cgroup.procs").write_text("20\n")
    host.process(22, 10, "runc:[2:INIT]", "new", "\t1")
    assert host.found == []
    (directory / "cgroup.procs").write_text("20\n22\n")
    host.until(("1", 22))


def test_stale_groups_of_an_engine_are_not_awaited(host: Host) -> None:
    v2(host)
    host.process(21, 10, "sh", "new", "\t1")
    left = host.container(f"docker/{ID}1")
    os.utime(left, (0, time.time() - 60))
    watch = host.watch()
    host.container(f"docker/{ID}2", 21)
    host.until(("2", 21))
    assert watch.waiting == 0
    host.container(f"docker/{ID}3")
    wait_for(lambda: watch.waiting == 1, "the new one is waited for", 5, 0.005)


def test_other_directories_are_no_containers(host: Host) -> None:
    v2(host)
    host.process(21, 10, "sh", "new", "\t1")
    host.watch()
    for name in ("docker/short", f"docker/{ID}1\n", "docker/buildkit", "user.slice/x", f"x/{ID}1"):
        host.container(name, 21)
    host.container(f"docker/{ID}2", 21)
    host.until(("2", 21))


def test_a_directory_that_goes_away_or_stays_empty_is_given_up(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup_watch, "GIVE_UP_SECONDS", 0.2)
    v2(host)
    watch = host.watch()
    (host.cgroup / f"docker/{ID}1").mkdir(parents=True)
    wait_for(lambda: watch._pending, "looked at", 5, 0.001)
    (host.cgroup / f"docker/{ID}1").rmdir()
    wait_for(lambda: not watch._pending, "gone", 5, 0.005)
    host.container(f"docker/{ID}2")
    wait_for(lambda: watch._pending, "looked at", 5, 0.001)
    wait_for(lambda: not watch._pending, "given up", 5, 0.005)
    host.process(23, 10, "sh", "new", "\t1")
    host.container(f"docker/{ID}3", 23)
    host.until(("3", 23))


def test_the_init_of_a_running_container(host: Host) -> None:
    v2(host)
    host.process(21, 10, "sh", "new", "\t1")
    host.container(f"docker/{ID}1", 21)
    watch = host.watch()
    assert watch.init_pid(f"{ID}1") == 21
    assert watch.init_pid(f"{ID}2") is None


def test_inactive_with_pids_of_another_namespace(host: Host) -> None:
    v2(host)
    host.process(21, 10, "sh", "new", "\t1")
    host.container(f"docker/{ID}1", 21)
    watch = host.watch(same_pidns=False)
    assert not watch.status()[0]
    assert watch.init_pid(f"{ID}1") is None


def test_inactive_without_cgroups(tmp_path: Path) -> None:
    reactor = Reactor("test-watch")
    view = HostView(str(tmp_path))
    view.__dict__["same_pidns"] = True
    watch = CgroupWatch(view, reactor, lambda *_: None)
    watch.start()
    assert not watch.status()[0]
    reactor.stop()
