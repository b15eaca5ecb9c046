"""What programs attach to: targets, their thread, and how a section names a file."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from support.waiting import deadline, wait_for

from ig_py.containers.collection import ContainerCollection
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.selector import Selector
from ig_py.containers.target_sync import TargetSync
from ig_py.containers.targets import HOST, Awaited, Target, Targets
from ig_py.errors import ObjectError
from ig_py.gadget import sections
from ig_py.gadget.spec import ProgramSpec
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor
from ig_py.records import replace
from ig_py.runtime import target_attacher
from ig_py.runtime.lookups import MAX_LOOKUPS_OF_USER
from ig_py.runtime.packets import SocketFilters, direction
from ig_py.runtime.target_attacher import Attachment, Attempt, Missing, TargetAttacher
from ig_py.runtime.uprobes import file_and_symbol

ALL = Awaited(None, of_root=True)


def of(container_id: str) -> Awaited:
    return Awaited(container_id, of_root=True)


def attaching(targets: Targets, attachments: list[Attachment]) -> TargetAttacher:
    return TargetAttacher(targets, attachments, [Reactor("attach")])


class Recorder:
    """A subscriber and an attachment that record each call."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.broken = ""
        self.programs = ["a program"]

    def added(self, target: Target) -> None:
        self.said.append(f"+{target.name}")

    def removed(self, target: Target) -> None:
        self.said.append(f"-{target.name}")

    def attach(self, target: Target, *, made: bool) -> Attempt:
        self.added(target)
        if target.name == self.broken:
            raise OSError("no such process")
        return None

    def after(self, awaited: Awaited, done: Callable[[], None]) -> None:
        done()

    detach = removed


def container(name: str, pid: int = 7) -> Container:
    return Container(runtime=RuntimeInfo(container_id=f"id-{name}", container_name=name, pid=pid))


def test_the_selected_containers() -> None:
    targets, recorder = Targets(), Recorder()
    collection = ContainerCollection()
    collection.add(container("web"))
    collection.add(container("db"))
    collection.subscribe(targets, TargetSync(targets, Selector.parse(container_name="web,late")))
    targets.add(HOST)
    targets.subscribe(recorder)
    assert recorder.said == ["+web", "+the host"]
    collection.add(container("late"))
    collection.add(container("dead", pid=0))
    collection.update(replace(container("late"), bundle="/x"))
    late = container("late")
    collection.update(replace(late, runtime=replace(late.runtime, container_name="renamed")))
    collection.remove("id-web")
    assert recorder.said[2:] == ["+late", "-late", "-web"]
    assert targets.live() == [HOST]
    targets.unsubscribe(recorder)
    targets.remove("")
    assert len(recorder.said) == 5


def test_following_in_a_thread() -> None:
    targets, recorder = Targets(), Recorder()
    recorder.broken = "b"
    targets.add(Target("1", "a", 1))
    targets.add(Target("2", "b", 2))
    attacher = attaching(targets, [recorder])
    attacher.start()
    assert attacher.settle(10)
    targets.add(Target("3", "c", 3))
    targets.remove("1")
    assert attacher.settle(10)
    attacher.stop()
    targets.remove("2")
    assert recorder.said == ["+a", "+b", "+c", "-a"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError("/proc/7/root"), "its process ended before that"),
        (ProcessLookupError("process 7 ended"), "its process ended before that"),
        (PermissionError("/proc/7/root"), "/proc/7/root"),
    ],
)
def test_what_was_never_attached_is_told(
    error: OSError, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Recorder):
        def attach(self, target: Target, *, made: bool) -> Missing | None:
            raise error

    targets = Targets()
    attacher = attaching(targets, [Late()])
    attacher.start()
    targets.add(Target("1", "a\x1b", 7))
    targets.add(Target("2", "b", 8))
    targets.remove("1")
    assert attacher.settle(10)
    attacher.stop()
    names = "containers 'a\\x1b', 'b'"
    assert warnings(caplog) == [f"{names}: not attached: a program: {reason}"]


class Making(Recorder):
    """Like a container that has its files at the attempt number *at*."""

    def __init__(self, at: int, *, soon: bool) -> None:
        super().__init__()
        self.at, self.soon = at, soon
        self.attached = threading.Event()

    def attach(self, target: Target, *, made: bool) -> Missing | None:
        self.added(target)
        if len(self.said) < self.at:
            return Missing({"p": "no file"}, soon=self.soon)
        self.attached.set()
        return None


@pytest.mark.parametrize(("at", "soon"), [(50, True), (3, False)])
def test_a_container_that_is_being_made_is_tried_again(
    at: int, soon: bool, caplog: pytest.LogCaptureFixture
) -> None:
    targets, making = Targets(), Making(at, soon=soon)
    attacher = attaching(targets, [making])
    attacher.start()
    targets.add(Target("1", "a", 7))
    assert making.attached.wait(10)
    attacher.stop()
    # Once it is attached, nothing is tried any more, and there is nothing to tell.
    assert len(making.said) == at
    assert warnings(caplog) == []


def test_a_runtime_that_starts_a_container_waits_for_one_more_attempt() -> None:
    targets, making = Targets(), Making(10**9, soon=True)
    attacher = attaching(targets, [making])
    attacher.start()
    targets.add(Target("1", "a", 7))
    done = threading.Event()

    def has_its_root() -> None:
        making.at = 0

    # The root is there when the runtime says so: the attempt is made after that.
    has_its_root()
    targets.after(ALL, done.set)
    assert done.wait(10)
    assert making.attached.is_set()
    attacher.stop()


def test_a_container_without_end_is_tried_less_and_less(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(target_attacher, "MAKING_SECONDS", 0.2)
    monkeypatch.setattr(target_attacher, "SOON_FOR_SECONDS", 0.1)
    targets, making = Targets(), Making(10**9, soon=True)
    attacher = attaching(targets, [making])
    attacher.start()
    targets.add(Target("1", "a", 7))
    wait_for(lambda: warnings(caplog), "the warning", 10)
    attacher.stop()
    assert warnings(caplog) == ["container 'a': not attached: p: no file"]
    assert len(making.said) < 110


def test_a_container_that_is_slow_to_make_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(target_attacher, "WARN_SECONDS", 0.0)
    targets, making = Targets(), Making(5, soon=True)
    attacher = attaching(targets, [making])
    attacher.start()
    targets.add(Target("1", "a", 7))
    assert making.attached.wait(10)
    assert attacher.settle(10)
    attacher.stop()
    assert not warnings(caplog)


class Reading(Recorder):
    """Looks at files; those of containers called ``stuck`` do not answer until *go* is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def attach(self, target: Target, *, made: bool) -> Attempt:
        def look_up() -> Missing | None:
            if target.name.startswith("stuck"):
                self.go.wait()
            self.added(target)
            return None

        return look_up


def test_a_container_whose_files_do_not_answer_delays_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(target_attacher, "WARN_SECONDS", 0.1)
    targets, reading = Targets(), Reading()
    attacher = attaching(targets, [reading])
    attacher.start()
    targets.add(Target("1", "stuck", 1))
    targets.add(Target("2", "b", 2))
    one, other = threading.Event(), threading.Event()
    targets.after(of("1"), one.set)
    targets.after(of("2"), other.set)
    assert other.wait(10)
    assert not attacher.settle(0.05)
    assert not one.is_set()
    wait_for(lambda: warnings(caplog), "the slow one is told", 10)
    reading.go.set()
    assert one.wait(10)
    assert attacher.settle(10)
    attacher.stop()
    reason = "its files are still being read"
    assert warnings(caplog) == [f"container 'stuck': not attached: a program: {reason}"]
    assert sorted({*reading.said}) == ["+b", "+stuck"]


def test_a_user_whose_files_do_not_answer_delays_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(target_attacher, "WARN_SECONDS", 0.1)
    targets, reading = Targets(), Reading()
    attacher = attaching(targets, [reading])
    attacher.start()
    for number in range(MAX_LOOKUPS_OF_USER + 1):
        targets.add(Target(f"s{number}", f"stuck{number}", 2, owner=1000))
    targets.add(Target("1", "b", 1))
    done = threading.Event()
    targets.after(of("1"), done.set)
    assert done.wait(10)
    last = f"container 'stuck{MAX_LOOKUPS_OF_USER}': not attached: a program: the files of too many"
    wait_for(lambda: [w for w in warnings(caplog) if w.startswith(last)], "the last is told", 10)
    reading.go.set()
    wait_for(lambda: f"+stuck{MAX_LOOKUPS_OF_USER}" in reading.said, "then it is attached", 10)
    attacher.stop()


@pytest.mark.parametrize("container_id", [None, "1"])
def test_root_waits_for_no_container_of_a_user(container_id: str | None) -> None:
    """Nor for one that the user has called by the id of root's."""

    class Soon(Recorder):
        def attach(self, target: Target, *, made: bool) -> Attempt:
            def look_up() -> Missing | None:
                if self.said:
                    go.wait(deadline(20))
                self.added(target)
                return Missing({"p": "no file"}, soon=True)

            return look_up

    go, targets, attachment = threading.Event(), Targets(), Soon()
    attacher = attaching(targets, [attachment])
    attacher.start()
    targets.add(Target("1", "theirs", 7, owner=1000))
    assert attacher.settle(10)
    root, theirs = threading.Event(), threading.Event()
    targets.after(Awaited(container_id, of_root=False), theirs.set)
    targets.after(Awaited(container_id, of_root=True), root.set)
    assert root.wait(10)
    assert not theirs.is_set()
    go.set()
    assert theirs.wait(10)
    attacher.stop()


def test_the_end_of_a_container_ends_the_wait_for_it() -> None:
    targets, reading = Targets(), Reading()
    attacher = attaching(targets, [reading])
    attacher.start()
    targets.add(Target("1", "stuck", 1))
    done = threading.Event()
    targets.after(of("1"), done.set)
    targets.remove("1")
    assert done.wait(10)
    reading.go.set()
    attacher.stop()


def test_a_program_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(target_attacher, "WARN_SECONDS", 0.0)

    class Changing(Recorder):
        def attach(self, target: Target, *, made: bool) -> Missing | None:
            self.added(target)
            reasons = {"p": f"reason {len(self.said)}", "q": "no file"}
            return Missing(reasons if len(self.said) > 2 else {"p": reasons["p"]})

    targets, changing = Targets(), Changing()
    attacher = attaching(targets, [changing])
    attacher.start()
    targets.add(Target("1", "a", 1))
    wait_for(lambda: len(changing.said) > 3, "it is tried again", 10)
    targets.remove("1")
    assert attacher.settle(10)
    attacher.stop()
    assert warnings(caplog) == [
        "container 'a': not attached: p: reason 1",
        "container 'a': not attached: q: no file",
    ]


@pytest.mark.parametrize(
    ("section", "kind", "follows"),
    [
        ("kprobe/x", "kprobe", False),
        ("?uprobe.multi.s//bin/x:f", "uprobe", True),
        ("usdt//bin/x:a:b", "usdt", True),
        ("socket1", "socket", True),
        ("sockops", "sockops", False),
        ("classifier/ingress/x", "classifier", True),
        ("iter/tcp", "iter", True),
        ("iter/task", "iter", False),
    ],
)
def test_kinds(section: str, kind: str, follows: bool) -> None:
    assert sections.kind(section) == kind
    assert sections.needs_containers(section) is follows


@pytest.mark.parametrize(
    ("section", "attach_to", "file", "symbol"),
    [
        ("uprobe/libc:malloc", "", "libc", "malloc"),
        ("uprobe//bin/x:f+0x10", "", "/bin/x", "f+0x10"),
        ("usdt/libc:libc:setjmp", "", "libc", "libc:setjmp"),
        ("uprobe/libc:malloc", "/bin/y:g", "/bin/y", "g"),
    ],
)
def test_files_and_symbols(section: str, attach_to: str, file: str, symbol: str) -> None:
    program = ProgramSpec("p", section, attach_to=attach_to)
    assert file_and_symbol(program) == (file, symbol)


@pytest.mark.parametrize(
    "section", ["uprobe/libc", "uprobe/a/b:f", "uprobe/:f", "uprobe/libc:", "usdt/libc:x", "uprobe"]
)
def test_targets_that_say_nothing(section: str) -> None:
    with pytest.raises(ObjectError, match="must read FILE:"):
        file_and_symbol(ProgramSpec("p", section))


def test_directions() -> None:
    assert direction(ProgramSpec("p", "classifier/egress/x")) == "egress"
    assert direction(ProgramSpec("p", "classifier/egress/x", attach_to="ingress")) == "ingress"
    for section in ("classifier", "classifier/up/x", "tc"):
        with pytest.raises(ObjectError):
            direction(ProgramSpec("p", section))


def test_later_steps_wait_for_all_followers() -> None:
    targets, said = Targets(), list[str]()
    targets.after(ALL, lambda: said.append("no subscriber"))
    assert said == ["no subscriber"]
    gate = threading.Event()

    class Slow(Recorder):
        def attach(self, target: Target, *, made: bool) -> Missing | None:
            gate.wait(10)
            said.append("attached")
            return None

    done = threading.Event()
    attachers = [attaching(targets, [Slow()]) for _ in range(2)]
    for attacher in attachers:
        attacher.start()
    targets.add(HOST)
    targets.after(ALL, done.set)
    assert not done.is_set()
    gate.set()
    assert done.wait(10)
    assert said.count("attached") == 2
    for attacher in attachers:
        attacher.stop()


class FailingOnce:
    """An object of the core that refuses the first socket."""

    def __init__(self) -> None:
        self.calls = 0

    def attach_socket(self, program: str, netns: int, netns_id: int) -> int:
        from ig_py._core import CoreError

        self.calls += 1
        if self.calls == 1:
            raise CoreError("attach", "no memory")
        return 40 + self.calls


def test_containers_of_one_network_namespace_share_a_filter() -> None:
    obj, released = FailingOnce(), list[int]()
    programs = [ProgramSpec("p", "socket1")]
    filters = SocketFilters(cast(Any, obj), programs, HostView(), released.append)
    first, second = Target("1", "a", os.getpid()), Target("2", "b", os.getpid())
    missing = filters.attach(first, made=False)
    assert missing is not None
    assert "no memory" in missing.reasons['program "p" (socket1)']
    assert filters.attach(first, made=False) is None
    assert filters.attach(second, made=False) is None
    assert filters.attach(first, made=False) is None
    assert obj.calls == 2
    filters.detach(first)
    assert released == []
    filters.detach(second)
    assert released == [42]
