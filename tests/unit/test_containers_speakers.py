"""Whose word a statement about a container is, and which of two that contradict counts."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_proc import FakeHost, OwnedNamespaces

from ig_py.containers.collection import ContainerCollection
from ig_py.containers.contradictions import Contradiction, Contradictions
from ig_py.containers.descriptions import MAX_OF_USER, Descriptions
from ig_py.containers.discovery import Discovery
from ig_py.containers.engines.clients import EngineClients
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.creation import creation_of
from ig_py.containers.identify import Found, identify
from ig_py.containers.live import LiveContainers
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.oci_bundle import MAX_USER_CONFIG, BundleReader
from ig_py.containers.sources import DiscoverySource
from ig_py.containers.speakers import (
    NOBODY,
    ROOT,
    ROOT_ENGINE,
    ROOT_STATE,
    Claim,
    Rank,
    Speaker,
    arguments,
    claim,
    listener_of_socket,
    speaker_of_path,
    speaker_of_process,
)
from ig_py.host.credentials import Credentials
from ig_py.host.proc import Pins, Process
from ig_py.host.reactor import Reactor

USER = os.getuid() + 1001
OTHER = USER + 1
OWN_MAP = f"0 {USER} 1\n"
ID = "ab" * 32
BY_USER = Claim(Speaker(USER), Rank.USER_FILES)
ADMIN = 1 << 21


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def container(container_id: str, name: str = "", mntns: int = 0, pid: int = 1) -> Container:
    info = RuntimeInfo(container_id=container_id, container_name=name or container_id, pid=pid)
    return Container(runtime=info, mntns=mntns)


@pytest.mark.parametrize(
    ("uids", "effective", "first", "secure", "speaker"),
    [
        ((0, 0, 0, 0), ADMIN, True, False, ROOT),
        ((0, 0, 0, 0), 0, True, False, NOBODY),
        ((0, 0, 0, 0), ADMIN, False, False, NOBODY),
        ((0, 0, 0, 0), ADMIN, True, True, NOBODY),
        ((7, 0, 0, 0), ADMIN, True, False, NOBODY),
        ((7, 7, 7, 7), ADMIN, False, False, Speaker(7)),
        ((7, 7, 7, 7), 0, True, False, Speaker(7)),
        ((7, 7, 7, 7), 0, True, True, NOBODY),
    ],
)
def test_whose_the_arguments_of_a_process_are(
    monkeypatch: pytest.MonkeyPatch,
    uids: tuple[int, ...],
    effective: int,
    first: bool,
    secure: bool,
    speaker: Speaker,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert speaker_of_process(Credentials(uids, effective, first, secure, 1)) == speaker


def test_a_process_that_has_ended_says_nothing(host: FakeHost) -> None:
    assert arguments(host.view, 99) == ([], NOBODY)
    host.process(5, words=("runc", "run", "c1"), user=USER, uid_map=OWN_MAP)
    assert arguments(host.view, 5) == (["runc", "run", "c1", ""], Speaker(USER))


def test_a_user_speaks_of_processes_of_that_user_only() -> None:
    assert ROOT.may_speak_of(None) and ROOT.may_speak_of(USER)
    assert Speaker(USER).may_speak_of(USER)
    assert not Speaker(USER).may_speak_of(None) and not Speaker(USER).may_speak_of(OTHER)
    assert not NOBODY.may_speak_of(None) and not NOBODY.may_speak_of(-1)
    assert claim(Speaker(USER), Rank.KERNEL).rank == Rank.USER_FILES
    assert claim(Speaker(USER), Rank.ROOT_ENGINE).rank == Rank.USER_ENGINE
    assert claim(ROOT, Rank.ROOT_STATE).rank == Rank.ROOT_STATE


def test_a_path_below_a_world_writable_directory_counts_for_no_user(tmp_path: Path) -> None:
    place = tmp_path / "open" / "s"
    place.parent.mkdir()
    place.touch()
    assert speaker_of_path(str(place)) == ROOT
    place.parent.chmod(0o777)
    assert speaker_of_path(str(place)) == NOBODY
    place.parent.chmod(0o1777)
    assert speaker_of_path(str(place)) == ROOT, "nobody else can replace it (the sticky bit)"


@pytest.mark.needs("root")
def test_a_path_of_a_user(tmp_path: Path) -> None:
    place = tmp_path / "home" / "s"
    place.parent.mkdir()
    place.touch()
    os.chown(place.parent, USER, USER)
    assert speaker_of_path(str(place)) == Speaker(USER), "whoever owns the directory"
    os.chown(place, OTHER, OTHER)
    assert speaker_of_path(str(place)) == NOBODY, "two users can change it"


def test_who_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        assert listener_of_socket(path) == (ROOT, os.getpid())
    with pytest.raises(ConnectionRefusedError):
        listener_of_socket(path)


@pytest.mark.needs("root")
def test_a_socket_at_a_users_path_is_roots_for_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.chown(path, USER, USER)
        assert listener_of_socket(path)[0] == NOBODY


def test_each_user_has_a_table_of_descriptions(host: FakeHost) -> None:
    known = Descriptions(threading.RLock())
    assert known.put(container("c", "roots"))
    for number in range(MAX_OF_USER):
        assert known.put(container(f"c{number}"), Speaker(USER))
    assert not known.put(container("more"), Speaker(USER)), "a user has too many"
    assert known.put(container("c", "users"), Speaker(OTHER))
    found = known.get("c")
    assert found is not None and found.runtime.container_name == "roots"
    for number in range(MAX_OF_USER + 1):
        known.init_found(f"d{number}", (1, DiscoverySource.STATE, BY_USER, 0))
    known.init_found("root's", (2, DiscoverySource.STATE, ROOT_ENGINE, 0))
    known.ignore("sandbox", Speaker(USER))
    assert not known.ignored("sandbox") and known.ignored("sandbox", Speaker(USER))
    assert known.take_init("root's") is not None
    assert known.take_init("d0", Speaker(USER)) is None, "the oldest goes"


class Live:
    """Live containers whose processes are this one."""

    def __init__(self) -> None:
        self.collection = ContainerCollection()
        self.contradictions = Contradictions()
        self.told: list[tuple[Contradiction, str, str]] = []
        self.contradictions.observe(
            lambda kind, stays, ignored: self.told.append(
                (kind, stays.id if stays else "", ignored.id)
            )
        )
        self.live = LiveContainers(
            OwnedNamespaces(),
            Reactor("test"),
            self.collection,
            threading.RLock(),
            lambda _id, _speaker: None,
            self.contradictions,
        )

    def add(self, container_id: str, mntns: int, by: Claim, pid: int = 1) -> bool:
        pidfd = os.pidfd_open(os.getpid())
        process = Process(pid, pidfd, Pins(), mntns, 0, 1, OwnedNamespaces().cgroups(0))
        return self.live.add(container(container_id, mntns=mntns, pid=pid), process, by, named=True)

    def ids(self) -> set[str]:
        return {c.id for c in self.collection.containers()}


@pytest.fixture
def live() -> Iterator[Live]:
    found = Live()
    yield found
    found.live.close()
    found.collection.close()


def test_a_weaker_word_for_the_same_namespace_is_ignored(live: Live) -> None:
    assert live.add("roots", 7, ROOT_ENGINE)
    assert not live.add("x", 7, BY_USER)
    assert live.ids() == {"roots"}
    assert live.told == [(Contradiction.NAMESPACE, "roots", "x")]


def test_a_stronger_word_ends_the_weaker_container(live: Live) -> None:
    assert live.add("web", 7, BY_USER)
    assert live.add("web", 8, ROOT_ENGINE)
    assert [c.mntns for c in live.collection.containers()] == [8]
    assert live.told == [(Contradiction.ID, "web", "web")]
    assert not live.add("web", 9, BY_USER)
    assert live.told[1:] == [(Contradiction.ID, "web", "web")]


def test_an_end_that_is_not_noticed_yet_contradicts_nothing(live: Live) -> None:
    with subprocess.Popen(["sleep", "300"]) as process:
        pidfd = os.pidfd_open(process.pid)
        process.kill()
    state = Process(process.pid, pidfd, Pins(), 7, 0, 1, OwnedNamespaces().cgroups(0))
    assert live.live.add(container("web", mntns=7), state, ROOT_STATE, named=True)
    assert not live.live.runs("web")
    by_kernel = Claim(ROOT, Rank.KERNEL)
    assert live.live.add_ended(container("web", mntns=8), 80, by_kernel, named=True)
    assert live.told == []
    assert live.live.add_ended(container("web", mntns=9), 90, BY_USER, named=True)
    assert live.told == []


def test_of_equal_words_the_earlier_counts(live: Live) -> None:
    assert live.add("first", 7, BY_USER)
    assert not live.add("second", 7, BY_USER), "no user evades what traces the first name"
    assert live.add("third", 9, ROOT_ENGINE, pid=5)
    assert not live.add("fourth", 9, ROOT_ENGINE, pid=5), "one process for two ids"
    assert live.add("fifth", 9, ROOT_ENGINE, pid=6), "root may share a mount namespace"
    assert live.ids() == {"first", "third", "fifth"}


def test_ends_are_told_by_the_same_speaker(live: Live) -> None:
    process = Process(1, -1, Pins(), 7, 0, 1, OwnedNamespaces().cgroups(0))
    assert live.live.add(container("web", mntns=7), process, ROOT_ENGINE, named=True)
    live.live.died("web", Claim(Speaker(USER), Rank.USER_ENGINE))
    assert live.ids() == {"web"}
    live.live.died("web", ROOT_ENGINE)
    assert live.ids() == set()


def test_each_kind_of_contradiction_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    found = Contradictions()
    for _ in range(3):
        found.add(Contradiction.NOT_OWN, container("c\x1b"), BY_USER)
    assert found.counts[Contradiction.NOT_OWN] == 3
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1 and f"user {USER}" in warnings[0] and "\x1b" not in warnings[0]


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process.pid
        process.kill()


def test_a_users_word_about_a_process_of_the_host_is_ignored(child: int) -> None:
    found = Discovery([])
    found.started(container("mine"), child, Claim(Speaker(USER), Rank.USER_ENGINE))
    assert len(found.collection) == 0
    assert found.contradictions.counts[Contradiction.NOT_OWN] == 1
    found.stop()


def test_a_user_cannot_hide_or_rename_a_container_of_roots(child: int) -> None:
    found = Discovery([])
    by = Claim(Speaker(USER), Rank.USER_ENGINE)
    found.ignore("web", by)
    found.describe(container("web", "lie"), by)
    found.started(container("web", "true"), child)
    found.renamed("web", "lie", by)
    found.died("web", by)
    found.forget("web", by)
    (only,) = found.collection.containers()
    assert only.runtime.container_name == "true"
    assert found.contradicts(container("web"), by)
    found.stop()


def made(host: FakeHost, path: str, user: int) -> str:
    """A control group of the unified hierarchy, made by *user*."""
    top = host.root / "sys/fs/cgroup"
    place = top / path.lstrip("/")
    place.mkdir(parents=True)
    (top / "cgroup.controllers").touch()
    os.chown(place, user, user)
    return path


@pytest.mark.needs("root")
def test_a_control_group_that_a_user_has_named(host: FakeHost) -> None:
    roots = made(host, f"/docker/{ID}", 0)
    slice_ = made(host, "/user.slice/user@1.service", USER)
    users = made(host, f"{slice_}/docker-{ID}.scope", USER)
    found = identify(host.view, 9, 0, "sh", users, owner=USER)
    assert found == Found(ID, engine=True, claim=BY_USER)
    assert identify(host.view, 9, 0, "sh", users, owner=OTHER) is None
    assert identify(host.view, 9, 0, "sh", users) is None, "a namespace of root's (su, snap)"
    gone = f"{slice_}/docker-{'cd' * 32}.scope"
    assert identify(host.view, 9, 0, "sh", gone) is None, "made where that user may"
    assert identify(host.view, 9, 0, "sh", f"/docker/{'ef' * 32}") is not None, "root's has gone"
    assert identify(host.view, 9, 0, "sh", roots) == Found(ID, engine=True)
    assert identify(host.view, 9, 0, "sh", roots, owner=0) == Found(ID, engine=True), "remapped"
    assert identify(host.view, 9, 0, "sh", roots, owner=USER) is None, "inside of the container"
    inner = f"{roots}/docker/{'12' * 32}"
    assert identify(host.view, 9, 0, "sh", inner) is not None, "Docker in Docker, with rights"
    assert identify(host.view, 9, 0, "sh", inner, owner=0) is None, "root inside of a container"


def test_a_users_command_line(host: FakeHost) -> None:
    words = ("runc", "run", "-b", "/b", "c1")
    host.process(5, words=words, user=USER, uid_map=OWN_MAP)
    found = identify(host.view, 9, 5, "sh", "/", owner=USER)
    assert found == Found("c1", "runc", "/b", claim=BY_USER)
    assert identify(host.view, 9, 5, "sh", "/") is None
    assert identify(host.view, 9, 5, "sh", "/", owner=OTHER) is None
    # User id 0 in a container, without rights over the host.
    host.process(6, words=words, capabilities="00000000a80425fb", user=0)
    if os.geteuid() == 0:
        assert identify(host.view, 9, 6, "sh", "/") is None
        assert identify(host.view, 9, 6, "sh", "/", owner=0) is None


def test_another_processs_words_about_a_container(host: FakeHost) -> None:
    host.process(5, words=("conmon", "-c", ID, "-n", "lie", "-b", "/lie"), user=USER)
    assert creation_of(host.view, ID, "").name == ""
    assert creation_of(host.view, ID, "", USER).name == "lie"
    # The same user id, in a container: it is another person's.
    host.process(6, words=("conmon", "-c", "other", "-n", "lie"), user=USER, mntns="m")
    assert creation_of(host.view, "other", "", USER).name == ""
    host.process(7, words=("conmon", "-c", ID, "-n", "web"))
    assert creation_of(host.view, ID, "").name == "web"


@pytest.mark.needs("root")
def test_a_bundle_of_a_user_says_nothing_of_roots_container(host: FakeHost) -> None:
    host.write("b/config.json", '{"annotations": {}}')
    reader = BundleReader(host.view)
    assert reader.of_host("/b", None) == '{"annotations": {}}'
    assert reader.of_host("/b", USER) == "", "a file of root's is not shown as a user's"
    os.chown(host.root / "b/config.json", USER, USER)
    assert reader.of_host("/b", None) == ""
    assert reader.of_host("/b", USER) == '{"annotations": {}}'
    (host.root / "b/config.json").unlink()
    (host.root / "b/config.json").symlink_to("/etc/shadow")
    host.write("etc/shadow", "secret")
    assert reader.of_host("/b", USER) == ""


@pytest.mark.needs("root")
def test_a_large_bundle_of_a_user_is_not_kept(host: FakeHost) -> None:
    text = '{"annotations": {}}'.ljust(MAX_USER_CONFIG + 1)
    host.write("b/config.json", text)
    reader = BundleReader(host.view)
    assert reader.of_host("/b", None) == text
    os.chown(host.root / "b/config.json", USER, USER)
    assert reader.of_host("/b", USER) == ""
    host.write("b/config.json", text[:-1])
    assert reader.of_host("/b", USER) == text[:-1]


class Sink:
    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


def test_engines_of_users_are_asked_for_their_own_containers_only() -> None:
    configs = [EngineConfig("podman", "/root's"), EngineConfig("podman", "/u", user=USER)]
    engines = EngineClients(configs, Sink())  # type: ignore[arg-type]
    roots, users = engines.clients
    users._connected = True
    assert engines.answers("podman", USER) and not engines.answers("podman")
    assert not engines.answers("podman", OTHER)
    roots._connected, users._connected = True, False
    assert not engines.silent("podman"), "a socket of a user's keeps nobody else waiting"
    assert engines.silent("podman", USER)
    assert engines.asked("podman", USER) and engines.asked("podman")
