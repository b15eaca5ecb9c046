"""Directories with the state of containers that runtimes' command lines name (--root)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_proc import FakeHost
from support.waiting import wait_for

from ig_py.containers.learnt_roots import MAX_ROOTS, LearntRoots, is_usual, state_root
from ig_py.containers.runtime_state import State
from ig_py.containers.speakers import Speaker
from ig_py.containers.state_dirs import StateDirs
from ig_py.host.reactor import Reactor

ID = "ab" * 32
ROOT = "/x/exec/runtime-runc/moby"
WORDS = ("runc", "--root", ROOT, "--log", "/l", "create", "--bundle", "/b", ID)
SHIM = ("/usr/bin/containerd-shim-runc-v2", "-namespace", "moby", "-id", ID)


class Clock:
    """A reactor whose time the test lets pass."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []

    def later(self, _seconds: float, call: Callable[[], object]) -> None:
        self.due.append(call)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    found = FakeHost(tmp_path)
    (tmp_path / ROOT[1:]).mkdir(parents=True)
    return found


Watched = tuple[str, str, str, tuple[str, ...]]


def learn(host: FakeHost, pid: int, clock: Clock | None = None) -> list[Watched]:
    watched: list[Watched] = []
    roots = LearntRoots(host.view, clock or Clock(), lambda *given: watched.append(given))  # type: ignore[arg-type]
    roots.executed(pid, ID)
    return watched


@pytest.mark.parametrize(
    ("words", "root"),
    [
        (WORDS, ROOT),
        (("crun", f"--root={ROOT}", "create", ID), ROOT),
        (("runc", "--root", "/x/first", f"--root={ROOT}", "create", ID), ROOT),
        (("runc", "create", ID), ""),
        (("runc", "--root"), ""),
        (("runc", "--root", "relative", "create", ID), ""),
        (("runc", "--root", "/" + "x" * 5000, "create", ID), ""),
        ((), ""),
    ],
)
def test_the_root_on_a_command_line(words: tuple[str, ...], root: str) -> None:
    assert state_root(list(words)) == root


def test_usual_roots_are_watched_anyway() -> None:
    usual = ("/run/runc", "/run/docker/runtime-runc/moby", "/run/containerd/runc/k8s.io")
    assert [is_usual(root) for root in (*usual, ROOT, "/run/other")] == [True] * 3 + [False] * 2


@pytest.mark.parametrize(
    ("parent", "runtime"),
    [(SHIM, "docker"), ((SHIM[0], "-namespace", "x"), "containerd"), (("sh",), "runc")],
)
def test_a_runtime_of_roots(host: FakeHost, parent: tuple[str, ...], runtime: str) -> None:
    host.process(40, parent=1, words=parent)
    host.process(50, parent=40, words=WORDS)
    assert learn(host, 50) == [(str(host.root / ROOT[1:]), runtime, ID, ())]


def test_a_root_that_the_runtime_makes_a_moment_later(host: FakeHost) -> None:
    host.process(50, parent=1, words=("runc", "--root", "/x/later", "create", ID))
    clock = Clock()
    watched: list[Any] = []
    roots = LearntRoots(host.view, clock, lambda *given: watched.append(given))  # type: ignore[arg-type]
    roots.executed(50, ID)
    assert watched == []
    (host.root / "x/later").mkdir()
    clock.due.pop()()
    assert watched == [(str(host.root / "x/later"), "runc", ID, ())]
    # One that never comes is not waited for without an end.
    host.process(51, parent=1, words=("runc", "--root", "/x/never", "create", ID))
    roots.executed(51, ID)
    tries = 0
    while clock.due:
        clock.due.pop()()
        tries += 1
    assert tries == 8


@pytest.mark.needs("root")
@pytest.mark.parametrize("how", ["user", "namespace", "directory", "link"])
def test_whose_word_names_no_root(host: FakeHost, how: str) -> None:
    words, place = WORDS, host.root / ROOT[1:]
    if how == "directory":
        os.chown(place.parent, 1001, 1001)
    elif how == "link":
        link = host.root / "x/link"
        link.symlink_to(place)
        os.chown(place, 1001, 1001)
        words = ("runc", "--root", "/x/link", *WORDS[3:])
    given: dict[str, Any] = {"user": 1001} if how == "user" else {}
    if how == "namespace":
        given = {"mntns": "another"}
    host.process(50, parent=1, words=words, **given)
    assert learn(host, 50) == []


def told(host: FakeHost, root: str, pid: int = 1) -> list[Watched]:
    watched: list[Watched] = []
    roots = LearntRoots(host.view, Clock(), lambda *given: watched.append(given))  # type: ignore[arg-type]
    roots.told(root, "docker", pid)
    return watched


@pytest.mark.parametrize(
    ("root", "place", "rest"),
    [
        ("/x/exec/runtime-runc/*", "x/exec/runtime-runc", ("*",)),
        ("/x/exec/runtime-other/*", "x/exec", ("runtime-other", "*")),
        ("/x//exec/./runtime-runc/moby/", "x/exec/runtime-runc/moby", ()),
        ("/none/of/it", "", ("none", "of", "it")),
    ],
)
def test_a_root_that_an_engine_names_is_watched_from_the_directory_that_is_there(
    host: FakeHost, root: str, place: str, rest: tuple[str, ...]
) -> None:
    assert told(host, root) == [(str(host.root / place), "docker", "", rest)]


@pytest.mark.parametrize(
    "root",
    [
        *("", "/", "*", "/*", "relative/*", "/x/../etc", "/x/*/y", "/x/*/*", "/" + "x" * 5000),
        *("/run/runc", "/run/docker/runtime-runc/*", "/run/containerd/runc/*"),
    ],
)
def test_a_root_that_is_no_place_or_is_watched_anyway_is_left(host: FakeHost, root: str) -> None:
    assert told(host, root) == []


@pytest.mark.needs("root")
@pytest.mark.parametrize("how", ["namespace", "directory", "gone"])
def test_an_engines_word_names_no_root(host: FakeHost, how: str) -> None:
    host.process(60, parent=1, **({"mntns": "another"} if how == "namespace" else {}))
    if how == "directory":
        os.chown(host.root / "x/exec", 1001, 1001)
    assert told(host, f"{ROOT}/*", 61 if how == "gone" else 60) == []


def test_roots_are_bounded(host: FakeHost) -> None:
    watched: list[Any] = []
    roots = LearntRoots(host.view, Clock(), lambda *given: watched.append(given))  # type: ignore[arg-type]
    for number in range(MAX_ROOTS + 5):
        (host.root / f"x/{number}").mkdir()
        words = ("runc", "--root", f"/x/{number}", "create", ID)
        host.process(1000 + number, parent=1, words=words)
        roots.executed(1000 + number, ID)
    assert len(watched) == MAX_ROOTS


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []

    def creating(self, container_id: str, runtime: str, speaker: Speaker) -> None:
        self.heard.append(("creating", container_id, runtime))

    def created(self, container_id: str, runtime: str, state: State, speaker: Speaker) -> None:
        self.heard.append(("created", container_id, runtime))


@pytest.fixture
def dirs(host: FakeHost) -> Iterator[tuple[StateDirs, Reactor, Listener]]:
    listener, reactor = Listener(), Reactor("test")
    found = StateDirs(host.view, reactor, listener)
    found.start(lambda: None)
    reactor.start()
    yield found, reactor, listener
    reactor.stop()
    found.stop()


def test_the_container_for_which_a_root_is_learnt_is_announced_once(
    host: FakeHost, dirs: tuple[StateDirs, Reactor, Listener]
) -> None:
    found, reactor, listener = dirs
    root = host.root / ROOT[1:]
    host.process(50, parent=1)
    host.write(f"{ROOT[1:]}/there/state.json", json.dumps({"init_process_pid": 50}))
    (root / "one").mkdir()
    for _ in range(2):
        reactor.soon(lambda: found.watch(str(root), "docker", "one", ()))
    wait_for(lambda: len(listener.heard) >= 2, "learnt", 5, 0.01)
    # Containers that were there already are no news to announce.
    assert sorted(listener.heard) == [("created", "there", "docker"), ("creating", "one", "docker")]
    (root / "two").mkdir()
    wait_for(lambda: len(listener.heard) == 3, "announced", 5, 0.01)
    assert listener.heard[2] == ("creating", "two", "docker")
    # A restart makes its directory again.
    (root / "two").rmdir()
    (root / "two").mkdir()
    wait_for(lambda: len(listener.heard) == 4, "announced again", 5, 0.01)


def test_a_directory_that_two_sources_name_is_told_of_once(
    host: FakeHost, dirs: tuple[StateDirs, Reactor, Listener]
) -> None:
    found, reactor, listener = dirs
    exec_root = host.root / "x/exec"
    reactor.soon(lambda: found.watch(str(exec_root), "docker", "", ("runtime-runc", "*")))
    reactor.soon(lambda: found.watch(str(host.root / ROOT[1:]), "docker", "one", ()))
    (exec_root / "link").symlink_to("runtime-runc")
    reactor.soon(lambda: found.watch(str(exec_root / "link"), "docker", "", ("*",)))
    reactor.soon(lambda: (host.root / ROOT[1:] / "one").mkdir())
    wait_for(lambda: listener.heard, "announced", 5, 0.01)
    host.process(50, parent=1)
    host.write(f"{ROOT[1:]}/one/state.json", json.dumps({"init_process_pid": 50}))
    wait_for(lambda: len(listener.heard) > 1, "created", 5, 0.01)
    reactor.soon(lambda: (host.root / ROOT[1:] / "last").mkdir())
    wait_for(lambda: listener.heard[-1][1] == "last", "the last", 5, 0.01)
    kinds = [(kind, name) for kind, name, _ in listener.heard]
    assert kinds == [("creating", "one"), ("created", "one"), ("creating", "last")]
    assert f", {exec_root}/runtime-runc/*" in found.status()[1]


def test_a_root_that_an_engine_makes_later_is_watched(
    host: FakeHost, dirs: tuple[StateDirs, Reactor, Listener]
) -> None:
    found, reactor, listener = dirs
    reactor.soon(lambda: found.watch(str(host.root), "docker", "", ("later", "runtime-runc", "*")))
    later = host.root / "later/runtime-runc/moby"
    reactor.soon(lambda: (later / "one").mkdir(parents=True))
    wait_for(lambda: listener.heard, "announced", 5, 0.01)
    assert listener.heard == [("creating", "one", "docker")]
