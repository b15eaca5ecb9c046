"""Decisions about new mount namespaces: which containers are taken in, when, and the others."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ig_py.containers import admission as module
from ig_py.containers.admission import Admission
from ig_py.containers.collection import Event, EventType
from ig_py.containers.engines.clients import EngineClients
from ig_py.containers.identify import Found
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.scout import PLACED, SHUT, Kind
from ig_py.containers.speakers import Claim, Rank, Speaker
from ig_py.containers.targets import Awaited
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView

ID = "ab" * 32
NO_PID = 1 << 22
"""Above every pid: nothing is there to be read."""


@dataclass
class Notice:
    mntns: int = 7
    generation: int = 70
    kind: int = Kind.NEW
    flags: int = 0
    pid: int = NO_PID
    nspid: int = NO_PID
    ppid: int = 0
    cgroup_id: int = 0
    owner: int | None = None
    order: int = 0
    comm: bytes = b"sh"
    cgroup: bytes = b"/"


class FakeScout:
    """A reactor and a scout in one; callbacks run when the test says so."""

    def __init__(self) -> None:
        self.soon_calls: list[Callable[[], None]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.settled: list[tuple[int, int]] = []
        self.superseded: set[tuple[int, int]] = set()
        self.reactor = self
        self.reads = 0

    def soon(self, callback: Callable[[], None]) -> None:
        self.soon_calls.append(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((seconds, callback))

    def read(self) -> None:
        self.reads += 1

    def settle(self, mntns: int, generation: int) -> None:
        self.settled.append((mntns, generation))

    def is_superseded(self, mntns: int, generation: int) -> bool:
        return (mntns, generation) in self.superseded

    def release(self) -> None:
        pass


class Engines(EngineClients):
    """Names of engines in place of clients, which answer or do not."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.answering = False

    def asked(self, engine: str, owner: int | None = None) -> bool:
        return engine in self.names

    def answers(self, _engine: str = "", owner: int | None = None) -> bool:
        return self.answering

    def silent(self, _engine: str, owner: int | None = None) -> bool:
        return bool(self.names) and not self.answering


@dataclass
class Known:
    """A discovery whose containers the test makes."""

    engines: Engines = field(default_factory=Engines)
    reports_unmanaged: bool = True
    monitored: bool = False
    alive: bool = True
    descriptions: dict[str, Container] = field(default_factory=dict)
    running: dict[str, Container] = field(default_factory=dict)
    kept: dict[int, Container] = field(default_factory=dict)
    """Containers that have ended, whose numbers are not used again."""
    ended: list[tuple[Container, int, bool]] = field(default_factory=list)
    sandboxes: set[str] = field(default_factory=set)
    mntns: int = 7
    subscriber: Callable[[Event], None] = lambda _event: None

    def describe_by_files(self, found: Found, pid: int, owner: int | None) -> Container | None:
        container_id = found.container_id
        if self.monitored:
            info = RuntimeInfo(name="podman", container_id=container_id, container_name="web")
            return Container(runtime=info)
        return None if container_id in self.sandboxes else container(container_id, container_id)

    def ignored(self, container_id: str, by: Claim) -> bool:
        return False

    def description(self, container_id: str, by: Claim, owner: int | None) -> Container | None:
        return self.descriptions.get(container_id)

    def current(self, container_id: str, by: Claim | None = None) -> Container | None:
        return self.running.get(container_id)

    def contradicts(self, found: Container, by: Claim) -> bool:
        return not by.speaker.is_root and found.id in self.descriptions

    def by_mntns(self, mntns: int) -> Container | None:
        return next((c for c in self.running.values() if c.mntns == mntns), None)

    def holder(self, mntns: int) -> Container | None:
        return self.by_mntns(mntns) or self.kept.get(mntns)

    def admit(self, found: Container, pid: int, mntns: int, by: Claim, *, named: bool) -> None:
        assert mntns
        if self.alive and found.id not in self.running:
            self.running[found.id] = taken = container(
                found.id, found.runtime.container_name, self.mntns, pid
            )
            self.subscriber(Event(EventType.CREATED, taken, named=named))

    def admit_ended(self, found: Container, generation: int, by: Claim, *, named: bool) -> bool:
        if found.id in self.running:
            return False
        self.ended.append((found, generation, named))
        self.subscriber(Event(EventType.CREATED, found, generation, named))
        return True


def container(container_id: str, name: str, mntns: int = 0, pid: int = 0) -> Container:
    runtime = RuntimeInfo(container_id=container_id, container_name=name, pid=pid)
    return Container(runtime=runtime, mntns=mntns)


class Trial:
    def __init__(self, known: Known, scout: FakeScout, admission: Admission) -> None:
        self.known, self.scout, self.admission = known, scout, admission
        self.rejected: list[tuple[int, int, bool]] = []
        self.readmitted: list[tuple[str, int]] = []
        admission.subscribe(self)
        known.subscriber = admission.changed

    def reject(self, mntns: int, generation: int, *, lose: bool, superseded: bool = False) -> None:
        self.rejected.append((mntns, generation, lose))

    def announced(self, mntns: int, process: str) -> None:
        pass

    def readmit(self, found: Container, generation: int) -> None:
        self.readmitted.append((found.id, generation))

    def tell(self, *notices: Notice) -> None:
        for notice in notices:
            self.admission._notice(notice)  # type: ignore[arg-type]
        while self.scout.soon_calls:
            self.scout.soon_calls.pop(0)()

    def time_is_up(self) -> None:
        timers, self.scout.timers = self.scout.timers, []
        for _, callback in timers:
            callback()
        self.tell()

    @property
    def names(self) -> list[str]:
        return [c.runtime.container_name for c in self.known.running.values()]


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    scout, known = FakeScout(), Known()

    def acquire(_view: HostView, _listener: Any) -> FakeScout:
        return scout

    monkeypatch.setattr(module, "acquire", acquire)
    view = HostView(str(tmp_path))
    return Trial(known, scout, Admission(view, known))


def docker(**more: Any) -> Notice:
    return Notice(comm=b"runc:[1:CHILD]", cgroup=f"/docker/{ID}".encode(), **more)


def test_a_described_container_is_taken_in_when_its_init_is_born(trial: Trial) -> None:
    trial.known.descriptions[ID] = container(ID, "web")
    trial.tell(docker())
    assert trial.names == []
    trial.tell(docker(kind=Kind.FORK, pid=NO_PID + 1, nspid=1))
    assert trial.names == ["web"]
    assert trial.known.running[ID].runtime.pid == NO_PID + 1
    assert trial.scout.settled == [(7, 70)]
    trial.tell(docker(kind=Kind.EXEC, pid=NO_PID + 1, nspid=1))
    trial.time_is_up()
    assert (trial.rejected, trial.admission.totals.containers) == ([], 1)


def test_without_a_pid_namespace_the_first_to_execute_is_init(trial: Trial) -> None:
    trial.known.descriptions[ID] = container(ID, "web")
    trial.tell(docker(), docker(kind=Kind.FORK, pid=NO_PID + 1, nspid=NO_PID + 1))
    assert trial.names == []
    trial.tell(docker(kind=Kind.EXEC, pid=NO_PID + 1, nspid=NO_PID + 1))
    assert trial.known.running[ID].runtime.pid == NO_PID + 1


def test_an_engines_word_is_awaited(trial: Trial) -> None:
    trial.known.engines.answering = True
    trial.tell(docker(), docker(kind=Kind.FORK, pid=NO_PID + 1, nspid=1))
    trial.tell(docker(kind=Kind.EXEC, pid=NO_PID + 1, nspid=1))
    assert trial.names == trial.rejected == []
    trial.known.descriptions[ID] = container(ID, "web")
    trial.admission.described(ID)
    trial.tell()
    assert trial.names == ["web"]


def test_an_engine_that_never_tells_leaves_the_id(trial: Trial) -> None:
    trial.known.engines.answering = True
    named: list[bool] = []
    changed = trial.known.subscriber

    def subscriber(event: Event) -> None:
        named.append(event.named)
        changed(event)

    trial.known.subscriber = subscriber
    trial.tell(docker(), docker(kind=Kind.FORK, pid=NO_PID + 1, nspid=1))
    trial.time_is_up()
    assert trial.names == [ID]
    assert named == [False]
    assert trial.admission.totals.unidentified == 1


def test_without_an_engine_no_container_is_awaited(trial: Trial) -> None:
    trial.tell(docker(), docker(kind=Kind.FORK, pid=NO_PID + 1, nspid=1))
    assert trial.names == [ID]


def test_only_some_engines_containers_are_wanted(trial: Trial) -> None:
    trial.known.reports_unmanaged = False
    trial.tell(docker(), docker(kind=Kind.EXEC, pid=NO_PID + 1, nspid=1))
    assert trial.names == trial.rejected == []
    trial.time_is_up()
    assert trial.rejected == [(7, 70, False)]


def test_an_ordinary_program_is_no_container_once_it_executes(trial: Trial) -> None:
    trial.tell(Notice())
    assert trial.rejected == []
    trial.tell(Notice(kind=Kind.EXEC))
    assert trial.rejected == [(7, 70, False)]
    assert trial.scout.settled == [(7, 70)]
    assert trial.admission.totals.others == 1


def test_a_namespace_that_never_executes_is_given_up(trial: Trial) -> None:
    trial.tell(Notice())
    trial.time_is_up()
    assert trial.rejected == [(7, 70, False)]
    trial.tell(Notice(mntns=8, generation=80), Notice(mntns=8, generation=80, kind=Kind.EXIT))
    assert trial.rejected[1:] == [(8, 80, False)]


def test_init_may_enter_its_cgroup_late(trial: Trial) -> None:
    trial.known.descriptions[ID] = container(ID, "web")
    early = Notice(comm=b"crun", cgroup=b"/user.slice", nspid=1)
    trial.tell(early)
    assert trial.names == []
    trial.tell(docker(kind=Kind.MOVED, nspid=1))
    assert trial.names == ["web"]


def test_where_only_podman_is_asked_its_containers_need_no_engine(trial: Trial) -> None:
    trial.known.reports_unmanaged, trial.known.monitored = False, True
    trial.known.engines.names, trial.known.engines.answering = ("podman",), True
    trial.tell(docker(nspid=1))
    assert trial.names == ["web"]


def test_podmans_are_left_to_others_where_only_docker_is_asked(trial: Trial) -> None:
    trial.known.reports_unmanaged, trial.known.monitored = False, True
    trial.known.engines.names, trial.known.engines.answering = ("docker",), True
    trial.tell(docker(nspid=1))
    trial.time_is_up()
    assert (trial.names, trial.rejected) == ([], [(7, 70, False)])


def test_events_are_lost_where_the_engine_that_may_know_is_silent(
    trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    trial.known.reports_unmanaged, trial.known.engines.names = False, ("docker",)
    trial.tell(docker(nspid=1))
    trial.time_is_up()
    assert trial.rejected == [(7, 70, True)]
    assert f"container {ID[:12]}: an engine that is asked does not answer" in caplog.text


def test_init_may_be_made_in_its_cgroup(trial: Trial) -> None:
    trial.known.alive = False
    born = Notice(comm=b"memfd:crun_clon", cgroup=b"/c1", nspid=1, flags=PLACED)
    trial.tell(born, replace(born, kind=Kind.EXEC, comm=b"echo"), replace(born, kind=Kind.EXIT))
    assert [c.id for c, _, _ in trial.known.ended] == ["c1"]


def test_a_service_that_executes_crun_is_not_its_container(trial: Trial) -> None:
    service = Notice(comm=b"(crun)", cgroup=b"/system.slice/c1.service", flags=PLACED)
    trial.tell(service, replace(service, kind=Kind.EXEC, comm=b"crun"))
    assert trial.rejected == [(7, 70, False)]


def test_a_pods_sandbox_is_left_out(trial: Trial) -> None:
    trial.known.sandboxes.add(ID)
    trial.tell(docker())
    assert trial.rejected == [(7, 70, False)]


def test_a_namespace_inside_a_container_is_not_the_containers(trial: Trial) -> None:
    trial.known.running[ID] = container(ID, "web", mntns=5)
    trial.known.descriptions[ID] = container(ID, "web")
    trial.tell(Notice(cgroup=f"/docker/{ID}".encode()))
    trial.tell(Notice(cgroup=f"/docker/{ID}".encode(), kind=Kind.EXEC))
    assert trial.rejected == [(7, 70, False)]


def test_a_container_that_ended_early_keeps_its_name(trial: Trial) -> None:
    trial.known.alive = False
    trial.known.descriptions[ID] = container(ID, "web")
    trial.tell(
        docker(),
        docker(kind=Kind.FORK, pid=NO_PID + 1, nspid=1),
        docker(kind=Kind.EXIT),
        docker(kind=Kind.EXEC, pid=NO_PID + 1, nspid=1),
        docker(kind=Kind.EXIT, pid=NO_PID + 1, nspid=1),
    )
    [(found, generation, named)] = trial.known.ended
    assert (generation, named) == (70, True)
    assert (found.runtime.container_name, found.runtime.pid, found.mntns) == ("web", NO_PID + 1, 7)
    assert trial.scout.settled == [(7, 70)]
    assert (trial.admission.totals.containers, trial.admission.totals.ended) == (1, 1)


def test_a_namespace_that_executed_nothing_is_no_container(trial: Trial) -> None:
    trial.known.alive = False
    trial.known.descriptions[ID] = container(ID, "web")
    trial.tell(docker(), docker(kind=Kind.EXIT))
    assert trial.rejected == [(7, 70, False)]
    assert trial.known.ended == []


def test_a_number_may_be_used_again_while_its_first_namespace_is_pending(trial: Trial) -> None:
    trial.known.engines.answering = True
    trial.known.alive = False
    trial.tell(docker(), docker(kind=Kind.EXEC, nspid=1), docker(kind=Kind.EXIT))
    trial.tell(Notice(generation=71), Notice(generation=71, kind=Kind.EXEC))
    assert trial.rejected == [(7, 71, False)]
    trial.known.descriptions[ID] = container(ID, "web")
    trial.time_is_up()
    assert [c.runtime.container_name for c, _, _ in trial.known.ended] == ["web"]
    assert trial.scout.settled == [(7, 71), (7, 70)]


def test_of_two_with_one_number_the_later_one_is_told_last(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def ended(found: Container, *_: object, **__: object) -> bool:
        said.append(found.runtime.container_name)
        return True

    monkeypatch.setattr(trial.known, "admit_ended", ended)
    trial.known.subscriber = lambda event: said.append(event.container.runtime.container_name)
    trial.known.alive = False
    trial.known.descriptions[ID] = container(ID, "first")
    trial.tell(docker(), docker(kind=Kind.EXEC, pid=NO_PID + 1))
    later = "cd" * 32
    trial.known.descriptions[later] = container(later, "second")
    trial.known.alive = True
    trial.tell(Notice(generation=71, nspid=1, cgroup=f"/docker/{later}".encode()))
    assert said == ["first", "second"]


def test_the_end_of_an_earlier_one_decides_nothing(trial: Trial) -> None:
    trial.known.engines.answering = True
    trial.tell(docker())
    for kind in (EventType.DELETED, EventType.EXPIRED):
        trial.admission.changed(Event(kind, container("cd" * 32, "earlier", mntns=7)))
    trial.tell()
    assert trial.scout.settled == []


def test_a_known_namespace_that_the_kernel_forgot_is_settled(trial: Trial) -> None:
    trial.known.running[ID] = container(ID, "web", mntns=7)
    trial.tell(Notice())
    assert trial.scout.settled == [(7, 70)]
    assert (trial.rejected, trial.readmitted) == ([], [(ID, 70)])


def test_an_earlier_namespace_of_a_running_containers_number_is_not_its(trial: Trial) -> None:
    """Its state file told of the later one before the notices of both were read."""
    later = "cd" * 32
    trial.known.running[later] = container(later, "later", mntns=7)
    trial.known.descriptions[ID] = container(ID, "earlier")
    trial.known.alive = False
    trial.scout.superseded = {(7, 70)}
    trial.tell(docker(), docker(kind=Kind.EXEC, nspid=1))
    assert trial.readmitted == []
    trial.tell(Notice(generation=71, cgroup=f"/docker/{later}".encode()))
    assert trial.readmitted == [(later, 71)]
    assert [(c.runtime.container_name, g) for c, g, _ in trial.known.ended] == [("earlier", 70)]
    assert trial.scout.settled == [(7, 70), (7, 71)]


def test_a_container_that_another_source_took_in_decides_about_its_own_namespace(
    trial: Trial,
) -> None:
    trial.known.engines.answering = True
    trial.tell(docker())
    trial.scout.superseded = {(7, 70)}
    later = container("cd" * 32, "later", mntns=7)
    trial.admission.changed(Event(EventType.CREATED, later))
    trial.tell()
    assert trial.scout.settled == []


@pytest.mark.parametrize("again", [False, True])
def test_one_that_another_source_took_in_and_that_ended_is_not_taken_in_twice(
    trial: Trial, again: bool
) -> None:
    trial.known.descriptions[ID] = trial.known.kept[7] = container(ID, "web", mntns=7)
    trial.known.alive = False
    trial.scout.superseded = {(7, 70)} if again else set()
    trial.tell(docker(), docker(kind=Kind.EXEC, nspid=1), docker(kind=Kind.EXIT))
    assert trial.scout.settled == [(7, 70)]
    assert len(trial.known.ended) == again, "an earlier run of that container's"


def test_our_own_namespaces_are_no_containers(trial: Trial, tmp_path: Path) -> None:
    """By our number in the host's /proc, which in a container is not what we call ourselves."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/self").symlink_to("4711")
    trial.tell(Notice(pid=4711))
    assert trial.rejected == [(7, 70, False)]


def test_those_kept_out_are_decided_about_as_well(trial: Trial) -> None:
    trial.known.descriptions[ID] = container(ID, "web")
    trial.tell(docker(flags=SHUT), docker(kind=Kind.FORK, pid=NO_PID + 1, nspid=1))
    assert trial.names == ["web"]
    assert trial.scout.settled == [(7, 70)]


def waiting(trial: Trial, container_id: str | None = None, *, of_root: bool = True) -> list[str]:
    said: list[str] = []
    trial.admission.when_decided(Awaited(container_id, of_root=of_root), lambda: said.append("go"))
    return said


def test_with_nothing_pending_no_event_waits(trial: Trial) -> None:
    assert waiting(trial) == ["go"]
    assert trial.scout.reads == 1
    trial.tell(Notice())
    assert waiting(trial) == ["go"], "it may be no container at all"


def test_a_decision_is_waited_for_once_init_is_known(trial: Trial) -> None:
    trial.known.engines.answering = True
    trial.tell(docker())
    assert waiting(trial) == ["go"], "which process is init shows when it executes"
    trial.tell(docker(kind=Kind.FORK, pid=NO_PID + 1, nspid=1))
    first, second = waiting(trial), waiting(trial)
    assert first == second == []
    trial.known.descriptions[ID] = container(ID, "web")
    trial.admission.described(ID)
    trial.tell()
    assert first == second == ["go"]
    assert waiting(trial) == ["go"]


@pytest.mark.parametrize("container_id", [None, ID])
def test_root_waits_for_no_decision_about_a_users_container(
    trial: Trial, container_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.known.engines.answering = True
    theirs_by_name = Found(ID, engine=True, claim=Claim(Speaker(1000), Rank.USER_FILES))
    monkeypatch.setattr(module, "identify", lambda *_args, **_kwargs: theirs_by_name)
    user, init = 1000, NO_PID + 1
    trial.tell(docker(owner=user), docker(owner=user, kind=Kind.FORK, pid=init, nspid=1))
    assert waiting(trial, container_id) == ["go"]
    theirs = waiting(trial, container_id, of_root=False)
    assert theirs == []
    trial.time_is_up()
    assert theirs == ["go"]


def test_giving_up_is_a_decision(trial: Trial) -> None:
    trial.known.engines.answering = True
    trial.tell(docker(), docker(kind=Kind.FORK, pid=NO_PID + 1, nspid=1))
    said = waiting(trial)
    trial.time_is_up()
    assert said == ["go"]


def test_notices_about_users_come_later_than_roots(trial: Trial) -> None:
    """The number was a user's namespace before it was root's, whose notice is read first."""
    trial.known.descriptions[ID] = container(ID, "web")
    trial.tell(docker(order=9, nspid=1))
    assert trial.names == ["web"]
    trial.tell(Notice(generation=60, order=5, owner=1000))
    assert trial.rejected == [(7, 60, False)]
    assert trial.readmitted == [], "its events are not the container's"


def test_a_user_who_claims_the_id_of_roots_container_loses_events(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = Claim(Speaker(1000), Rank.USER_FILES)
    monkeypatch.setattr(module, "identify", lambda *_, **__: Found(ID, claim=by))
    trial.known.descriptions[ID] = container(ID, "web")
    trial.tell(Notice(owner=1000), Notice(kind=Kind.EXEC))
    assert trial.rejected == [(7, 70, True)]
    assert trial.names == []


def test_containers_that_are_let_in_late_are_counted_when_they_are_selected(trial: Trial) -> None:
    trial.known.descriptions[ID] = container(ID, "web")
    trial.tell(docker(flags=SHUT, nspid=1))
    assert trial.admission.totals.late == 1
    trial.admission.wanted = lambda _: False
    trial.known.running.clear()
    trial.tell(docker(flags=SHUT, nspid=1, generation=71))
    assert trial.admission.totals.late == 1


def unreadable(number: int) -> Callable[..., Any]:
    def identify(*_arguments: Any, **_more: Any) -> Found | None:
        raise HostReadError("/proc/1/status", OSError(number, os.strerror(number)))

    return identify


def test_what_cannot_be_identified_for_want_of_descriptors_is_lost(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "identify", unreadable(errno.EMFILE))
    trial.tell(docker(), docker(kind=Kind.EXEC, pid=NO_PID + 1, nspid=1))
    assert trial.rejected == [], "it is waited for a later look"
    trial.time_is_up()
    assert trial.rejected == [(7, 70, True)]
    assert trial.admission._view.failures.count >= 2


def test_it_is_identified_by_a_later_look(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.known.descriptions[ID] = container(ID, "web")
    with monkeypatch.context() as patch:
        patch.setattr(module, "identify", unreadable(errno.ENOMEM))
        trial.tell(docker(), docker(kind=Kind.EXEC, pid=NO_PID + 1, nspid=1))
    assert trial.names == []
    trial.time_is_up()
    assert trial.names == ["web"]
    assert trial.rejected == []
