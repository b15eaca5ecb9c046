"""The container of a namespace, from cgroups and command lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.fake_proc import ALL_CAPABILITIES, ALL_IDS

from ig_py.containers.identify import Found, engine_id, from_command, identify, started_by
from ig_py.containers.speakers import ROOT, Claim, Rank
from ig_py.host.proc import HostView

ID = "ab" * 32
COMMAND = Claim(ROOT, Rank.ROOT_COMMAND)


@pytest.mark.parametrize(
    "path",
    [
        f"/docker/{ID}",
        f"/system.slice/docker-{ID}.scope",
        f"/kubepods/burstable/pod1/{ID}",
        f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
        f"/machine.slice/libpod-{ID}.scope/container",
        f"/docker/{'cd' * 32}/docker/{ID}",
        f"/docker/{ID}/init.scope",
    ],
)
def test_engines_name_their_cgroups(path: str) -> None:
    assert engine_id(path) == ID


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/user.slice/user-0.slice/session-1.scope",
        f"/docker/{ID[:-1]}",
        f"/docker/{ID}0",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        f"/docker/{ID.upper()}",
    ],
)
def test_other_cgroups_are_no_container(path: str) -> None:
    assert engine_id(path) == ""


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("runc run c1", Found("c1", "runc")),
        ("/usr/sbin/runc --root /r run --bundle /b c1", Found("c1", "runc", "/b")),
        ("runc run -b /b -d c1", Found("c1", "runc", "/b")),
        ("crun --cgroup-manager=disabled run --bundle=/b c1", Found("c1", "crun", "/b")),
        (
            "runc --root /r --log /l --log-format json create --bundle /b --pid-file /p c1",
            Found("c1", "runc", "/b"),
        ),
        ("/opt/other create --bundle /b c1", Found("c1", "other", "/b")),
        ("other run c1", None),
        ("runc exec c1 sh", None),
        ("runc start c1", None),
        ("runc run", None),
        ("runc run ../c1", None),
        ("sh -c runc run c1", None),
        ("", None),
    ],
)
def test_runtimes_command_lines(command: str, found: Found | None) -> None:
    assert from_command(command.split()) == found


class Processes:
    """A /proc of files."""

    def __init__(self, root: Path) -> None:
        self.view = HostView(str(root))
        self._proc = root / "proc"

    def add(
        self,
        pid: int,
        parent: int,
        command: str,
        cgroup: str = "/",
        name: str = "",
        born: int = 100,
    ) -> None:
        folder = self._proc / str(pid)
        folder.mkdir(parents=True)
        (folder / "cmdline").write_text(command.replace(" ", "\0") + "\0")
        uids = "\t".join([str(os.getuid())] * 4)
        (folder / "status").write_text(
            f"Name:\t{name or command.split()[0]}\nPPid:\t{parent}\n"
            f"Uid:\t{uids}\nCapEff:\t{ALL_CAPABILITIES}\n"
        )
        (folder / "uid_map").write_text(ALL_IDS)
        (folder / "comm").write_text(f"{name or command.split()[0]}\n")
        (folder / "cgroup").write_text(f"4:memory:{cgroup}\n0::/\n")
        (folder / "stat").write_text(f"{pid} (x) S {' '.join(['0'] * 18)} {born} 0\n")


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


def test_the_cgroup_of_the_kernel_or_of_proc(processes: Processes) -> None:
    processes.add(10, 1, "init", f"/docker/{ID}")
    assert identify(processes.view, 10, 1, "init", "/") == Found(ID, engine=True)
    assert identify(processes.view, 99, 1, "init", f"/docker/{ID}") == Found(ID, engine=True)
    assert identify(processes.view, 99, 1, "sh", "/user.slice") is None


def test_a_runtime_above_it(processes: Processes) -> None:
    processes.add(5, 1, "bash")
    processes.add(7, 5, "runc run --bundle /b c1")
    processes.add(8, 7, "runc init")
    assert identify(processes.view, 9, 8, "runc:[2:INIT]", "/c1") == Found(
        "c1", "runc", "/b", claim=COMMAND
    )
    processes.add(20, 1, "containerd-shim-runc-v2 -id c2", name="containerd-shim")
    processes.add(21, 20, "runc create --bundle /b c2")
    assert identify(processes.view, 22, 21, "runc:[1:CHILD]", "/") == Found(
        "c2", "runc", "/b", engine=True, claim=COMMAND
    )


def test_a_runtime_that_has_gone(processes: Processes) -> None:
    assert identify(processes.view, 9, 8, "runc:[1:CHILD]", "/a/c1") == Found("c1", "runc")
    assert identify(processes.view, 9, 8, "runc:[1:CHILD]", "/a/runc-c1.scope") == Found(
        "c1", "runc"
    )
    assert identify(processes.view, 9, 8, "runc:[1:CHILD]", "/") is None


def test_a_number_that_another_runtime_has_by_now_names_no_container(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.add(9, 8, "runc init", "/a/c1", name="runc:[1:CHILD]", born=200)
    processes.add(8, 1, "runc run c2", born=201)
    by_cgroup = Found("c1", "runc")
    assert identify(processes.view, 9, 8, "runc:[1:CHILD]", "/a/c1") == by_cgroup
    # The parent is there, and its own parent's number is another process's.
    processes.add(7, 6, "runc init", born=200)
    processes.add(6, 1, "runc run c2", born=300)
    assert identify(processes.view, 99, 7, "runc:[1:CHILD]", "/a/c1") == by_cgroup
    # It ends while its arguments are read.
    processes.add(5, 1, "runc run c2", born=150)
    times = iter([200, 150, 151])
    monkeypatch.setattr(processes.view, "born", lambda _pid: next(times))
    assert identify(processes.view, 9, 5, "runc:[1:CHILD]", "/a/c1") == by_cgroup


def test_a_copy_of_crun_that_has_executed_nothing(processes: Processes) -> None:
    processes.add(7, 1, "crun run c1", name="crun")
    assert identify(processes.view, 7, 1, "crun", "/") == Found("c1", "crun", claim=COMMAND)
    assert identify(processes.view, 9, 7, "crun", "/") == Found("c1", "crun", claim=COMMAND)
    # unshare made this namespace and then executed crun: the container has another one.
    assert identify(processes.view, 7, 1, "unshare", "/") is None
    assert identify(processes.view, 7, 1, "crun", "/", executed=True) is None


def test_a_crun_that_has_gone(processes: Processes) -> None:
    assert identify(processes.view, 9, 8, "crun", "/a/c1", moved=True) == Found("c1", "crun")
    assert identify(processes.view, 9, 8, "crun", "/crun-c1.scope", moved=True) == Found(
        "c1", "crun"
    )
    assert identify(processes.view, 9, 8, "memfd:crun_clon", "/c1", moved=True) == Found(
        "c1", "crun"
    )
    assert identify(processes.view, 9, 8, "crun", "/session.scope") is None
    assert identify(processes.view, 9, 8, "echo", "/a/c1", moved=True) is None


def test_a_loop_of_parents_ends(processes: Processes) -> None:
    processes.add(7, 8, "a")
    processes.add(8, 7, "b")
    assert identify(processes.view, 9, 7, "c", "/") is None


@pytest.mark.parametrize(
    ("command", "container_id"),
    [
        ("runc start web", "web"),
        ("/usr/bin/crun --root /x --log-format json start web", "web"),
        ("runtime --unknown value start web", "web"),
        ("runc create --bundle /b start", ""),
        ("runc start", ""),
        ("runc start --help", ""),
        ("runc start ../web", ""),
        ("runc", ""),
    ],
)
def test_the_command_line_that_starts_a_container(command: str, container_id: str) -> None:
    assert started_by(command.split()) == container_id
    assert started_by([]) == ""
