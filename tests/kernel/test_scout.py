"""The scout's programs: their notices about new mount namespaces, and the filters they update."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.core_plans import PlanMaker
from support.pumping import next_batches
from support.waiting import wait_for

from ig_py import _core
from ig_py.containers.scout import PLACED, SHUT, Kind, _mount_namespaces, _pidns
from ig_py.host.proc import HostView
from ig_py.host.tracefs import with_tracefs

pytestmark = pytest.mark.needs("root", "bpf", "btf", "ringbuf", "tracepoint")

HASH = 1
PENDING = struct.pack("=I", 2)
CLONE_NEWNS = 0x20000
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}


@contextmanager
def scout(max_pending: int = 64, of_users: int = 64) -> Iterator[_core.Scout]:
    view = HostView("/")
    loaded = _core.Scout(_pidns(view), (max_pending, of_users))
    try:
        loaded.baseline(_mount_namespaces(view))
        loaded.attach()
        with_tracefs(loaded.attach_by_tracefs)
        yield loaded
    finally:
        loaded.close()


def filter_map(entries: int = 64) -> _core.Map:
    return _core.Map.create("filter", HASH, 8, 4, entries)


def namespaces(kernel_map: _core.Map) -> set[int]:
    return {struct.unpack("=Q", key)[0] for key in kernel_map.keys()}  # noqa: SIM118


class Notices:
    """All that came, of the processes that this test started."""

    def __init__(self, core: _core.Scout) -> None:
        self._core = core
        self.all: list[_core.ScoutNotice] = []

    def of(self, pid: int) -> list[_core.ScoutNotice]:
        self.all += self._core.notices()
        return [n for n in self.all if n.pid == pid]

    def kinds(self, pid: int) -> list[Kind]:
        return [Kind(n.kind) for n in self.of(pid)]

    def wait(self, pid: int, kind: Kind) -> _core.ScoutNotice:
        wait_for(lambda: kind in self.kinds(pid), f"{kind.name} of {pid}", 10, 0.01)
        return next(n for n in self.of(pid) if n.kind == kind)


# unshare executes the command in the process it is itself.


@contextmanager
def unshared(*argv: str) -> Iterator[int]:
    child = subprocess.Popen(["unshare", "--mount", *(argv or ("sleep", "300"))])
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def short_lived() -> int:
    """The pid of a process that had a mount namespace and has ended."""
    child = subprocess.Popen(["unshare", "--mount", "true"])
    assert child.wait() == 0
    return child.pid


def test_a_new_namespace_is_reported_and_admitted_at_once() -> None:
    with scout() as core:
        passes = filter_map()
        slot = core.add_filter(passes)
        notices = Notices(core)
        subprocess.run(["true"], check=True)
        with unshared() as pid:
            new = notices.wait(pid, Kind.NEW)
            execution = notices.wait(pid, Kind.EXEC)
            assert new.mntns == Path(f"/proc/{pid}/ns/mnt").stat().st_ino
            assert passes.lookup(struct.pack("=Q", new.mntns)) == PENDING
            assert (new.comm, execution.comm) == (b"unshare", b"sleep")
            assert new.ppid == os.getpid()
            assert new.flags == 0
            cgroups = [
                line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()
            ]
            longest = max(cgroups, key=lambda path: path.count("/") if path != "/" else 0)
            assert os.fsdecode(new.cgroup) in (longest, "")
        notices.wait(pid, Kind.EXIT)
        assert {n.mntns for n in notices.of(pid)} == {new.mntns}
        before = core.counts()["pending"]
        core.withdraw(passes, new.mntns, new.generation)
        core.settle(new.mntns, new.generation)
        assert new.mntns not in namespaces(passes)
        assert core.counts()["pending"] < before or before > 1
        core.remove_filter(slot)
        there = namespaces(passes)
        with unshared() as pid:
            assert notices.wait(pid, Kind.NEW).mntns not in namespaces(passes) - there


@pytest.mark.needs("cgroup2")
def test_a_first_process_that_is_in_a_control_group_of_its_own() -> None:
    top = Path(HostView("/").cgroup2_mount()) / f"scout-{os.getpid()}"
    # Deeper than this process's groups: the deepest path counts, in any hierarchy.
    own = top.joinpath(*"abcdefgh")
    own.mkdir(parents=True)
    script = f"echo $$ > {own}/cgroup.procs && exec unshare --mount sleep 300"
    try:
        with scout() as core:
            notices = Notices(core)
            child = subprocess.Popen(["sh", "-c", script])
            try:
                new = notices.wait(child.pid, Kind.NEW)
            finally:
                child.kill()
                child.wait()
            assert new.flags == PLACED
            assert new.cgroup.endswith(b"/a/b/c/d/e/f/g/h")
    finally:
        for group in (own, *own.parents):
            if group.is_relative_to(top):
                group.rmdir()


def test_a_settled_namespace_has_no_further_notices() -> None:
    with scout() as core:
        notices = Notices(core)
        with unshared() as pid:
            notices.wait(pid, Kind.EXEC)
            new = notices.of(pid)[0]
            core.settle(new.mntns, new.generation)
        notices.wait(short_lived(), Kind.EXEC)
        assert notices.kinds(pid) == [Kind.NEW, Kind.EXEC]


def test_a_reused_namespace_number_is_another_generation() -> None:
    with scout() as core:
        notices = Notices(core)
        seen: dict[int, set[int]] = {}

        def reused() -> bool:
            new = notices.wait(short_lived(), Kind.NEW)
            # It counts as pending until it is settled, even when it has ended.
            core.settle(new.mntns, new.generation)
            generations = seen.setdefault(new.mntns, set())
            assert new.generation not in generations
            generations.add(new.generation)
            return len(generations) > 1

        wait_for(reused, "a number used twice", 10, 0)


def test_the_number_of_one_that_ended_before_the_start_is_a_new_one() -> None:
    view = HostView("/")
    with unshared() as pid:
        other = Path("/proc/self/ns/mnt").stat().st_ino
        wait_for(lambda: view.namespace(pid, "mnt") != other, "it has a namespace of its own")
        ended = view.namespace(pid, "mnt")
        assert ended is not None
        before = _mount_namespaces(view)
        assert ended in before
    core = _core.Scout(_pidns(view), (64, 64))
    try:
        core.baseline(before)
        core.attach()
        with_tracefs(core.attach_by_tracefs)
        core.baseline_ended([ended])
        notices = Notices(core)

        def reused() -> bool:
            new = notices.wait(short_lived(), Kind.NEW)
            core.settle(new.mntns, new.generation)
            return new.mntns == ended

        wait_for(reused, "the number is used again", 10, 0)
    finally:
        core.close()


def test_an_earlier_namespace_is_withdrawn_without_the_later_one() -> None:
    with scout() as core:
        passes = filter_map()
        core.add_filter(passes)
        notices = Notices(core)
        with unshared() as pid:
            new = notices.wait(pid, Kind.NEW)
            core.withdraw(passes, new.mntns, new.generation - 1)
            assert new.mntns in namespaces(passes)


def test_a_later_namespace_of_a_number_is_known_before_its_notice_is_read() -> None:
    with scout() as core:
        notices = Notices(core)
        with unshared() as pid:
            first = notices.wait(pid, Kind.NEW)
            assert not core.is_superseded(first.mntns, first.generation)
        # The kernel gives the lowest number that is free; other processes may take it.
        wait_for(
            lambda: short_lived() and core.is_superseded(first.mntns, first.generation),
            "its number is used again",
            20,
        )
        notices.of(0)
        (later, *_) = [
            n
            for n in notices.all
            if n.mntns == first.mntns and n.generation != first.generation and n.kind == Kind.NEW
        ]
        assert later.order > first.order


def test_clone_is_seen_before_the_child_runs() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYS_CLONE[os.uname().machine]
    with scout() as core:
        passes = filter_map()
        core.add_filter(passes)
        notices = Notices(core)
        zeros = (ctypes.c_ulong(0),) * 4
        pid = libc.syscall(number, ctypes.c_ulong(CLONE_NEWNS | signal.SIGCHLD), *zeros)
        if pid == 0:
            os._exit(0)
        assert pid > 0
        os.waitpid(pid, 0)
        new = notices.wait(pid, Kind.NEW)
        assert new.mntns in namespaces(passes)
        notices.wait(pid, Kind.EXIT)
        assert notices.kinds(pid)[0] == Kind.NEW


def test_init_of_a_pid_namespace_is_number_one() -> None:
    with scout() as core:
        notices = Notices(core)
        argv = ["unshare", "--mount", "--pid", "--fork", "sleep", "300"]
        child = subprocess.Popen(argv)
        try:
            new = notices.wait(child.pid, Kind.NEW)
            wait_for(
                lambda: any(n.nspid == 1 and n.kind == Kind.EXEC for n in core_all(notices)),
                "init",
                10,
                0.01,
            )
            init = next(n for n in notices.all if n.nspid == 1)
            assert (init.kind, init.ppid, init.mntns) == (Kind.FORK, child.pid, new.mntns)
            assert init.pid != 1
        finally:
            for notice in notices.all:
                if notice.nspid == 1 and notice.kind == Kind.FORK:
                    os.kill(notice.pid, signal.SIGKILL)
            child.kill()
            child.wait()


def core_all(notices: Notices) -> list[_core.ScoutNotice]:
    notices.of(0)
    return notices.all


def test_beyond_max_pending_namespaces_are_reported_but_not_admitted() -> None:
    with scout(max_pending=2) as core:
        passes = filter_map()
        core.add_filter(passes)
        notices = Notices(core)
        with unshared() as a, unshared() as b:
            for pid in (a, b):
                notices.wait(pid, Kind.NEW)
            with unshared() as c:
                late = notices.wait(c, Kind.NEW)
                assert late.flags == SHUT
                assert late.mntns not in namespaces(passes)
            assert core.counts()["shut"] >= 1

            def admitted() -> bool:
                # The machine's own processes take places, too.
                for notice in core_all(notices):
                    core.settle(notice.mntns, notice.generation)
                with unshared() as d:
                    return notices.wait(d, Kind.NEW).flags == 0

            wait_for(admitted, "a place for a later namespace", 10)


def test_later_filters_get_the_pending_namespaces() -> None:
    with scout() as core:
        first, second, tiny = filter_map(), filter_map(), filter_map(1)
        core.add_filter(first)
        notices = Notices(core)
        with unshared() as a:
            mntns = notices.wait(a, Kind.NEW).mntns
            core.add_filter(second)
            core.add_filter(tiny)
            assert mntns in namespaces(second)
            with unshared() as b:
                other = notices.wait(b, Kind.NEW).mntns
                assert namespaces(first) & namespaces(second) >= {mntns, other}
                assert len(namespaces(tiny)) == 1
            assert core.counts()["full"] >= 1


def test_forks_of_one_namespace_are_reported_up_to_a_limit() -> None:
    with scout() as core:
        notices = Notices(core)
        with unshared("sh", "-c", "for i in $(seq 200); do (:); done; read x") as pid:
            notices.wait(pid, Kind.EXEC)
            mntns = notices.of(pid)[0].mntns
            notices.wait(short_lived(), Kind.EXEC)
        assert len([n for n in notices.all if n.mntns == mntns]) <= 65
        assert core.counts()["missed"] == 0


def stream_of(core: _core.Scout) -> _core.Stream:
    maker = PlanMaker(16)
    mntns = maker.field("mntns", "u64", 0, 8)
    maker.field("n", "u64", 8, 8)
    name = maker.slot("name")
    maker.step(op="container", mntns=mntns, netns=None, fields={"runtime.containerName": name})
    maker.datasource["keep"] = True
    stream = _core.pipeline(maker.mode("none").text())
    stream.admit_by(core, True)
    return stream


def test_events_wait_for_the_verdict() -> None:
    with scout() as core:
        stream, notices = stream_of(core), Notices(core)

        def push(mntns: int, number: int) -> list[dict[str, object]]:
            return stream.push("x", [struct.pack("=QQ", mntns, number)]).rows()

        with unshared() as a, unshared() as b:
            # No notice has been read yet: the stream reads them itself.
            for pid in (a, b):
                comm = Path(f"/proc/{pid}/comm")
                wait_for(lambda comm=comm: comm.read_text() == "sleep\n", "unshared", 10, 0.01)
            mine, other = (Path(f"/proc/{pid}/ns/mnt").stat().st_ino for pid in (a, b))
            for number in range(3):
                assert push(mine, number) == []
                assert push(other, number) == []
            assert push(12345, 7) == [{"mntns": 12345, "n": 7, "name": ""}]
            assert stream.waiting() == 6
            stream.set_container(mine, 0, {"runtime.containerName": "me"})
            stream.decide(mine, 0, "keep")
            released = [row for batch in next_batches(stream, 0) for row in batch.rows()]
            assert released == []  # A stream without readers hands out with the next push.
            rows = push(mine, 3)
            assert [(row["n"], row["name"]) for row in rows] == [(n, "me") for n in range(4)]
            stream.decide(other, 0, "reject")
            assert push(other, 4) == []
            counters = stream.counters()["x"]
            assert (counters["received"], counters["emitted"], counters["discarded"]) == (9, 5, 4)
        with unshared() as c:
            last = notices.wait(c, Kind.NEW).mntns
            assert push(last, 0) == []
            stream.end_waiting("lose")
            assert stream.counters()["x"]["unidentified"] == 1
    stream.close()


def test_samples_that_are_read_after_a_loss_are_lost_and_after_a_name_emitted() -> None:
    with scout() as core:
        stream, notices = stream_of(core), Notices(core)
        with unshared() as pid:
            mntns = notices.wait(pid, Kind.NEW).mntns

            def push(number: int) -> list[object]:
                rows = stream.push("x", [struct.pack("=QQ", mntns, number)]).rows()
                return [row["n"] for row in rows]

            def lost() -> tuple[int, int | None, int]:
                counters = stream.counters()["x"]
                return counters["unidentified"], counters["lost"], counters["discarded"]

            assert push(0) == []
            stream.decide(mntns, 0, "lose")
            # These were in the ring buffer when the time was up.
            assert push(1) == push(2) == []
            assert lost()[0] == 3
            assert lost()[2] == 0
            stream.decide(mntns, 0, "keep")
            assert push(3) == [3]
            assert lost()[0] == 3
        with unshared() as pid:
            mntns = notices.wait(pid, Kind.NEW).mntns
            stream.end_waiting("lose")
            assert push(4) == []
            assert lost()[0] == 4
    stream.close()


def test_streams_and_filters_may_outlive_it() -> None:
    with scout() as core:
        stream, passes = stream_of(core), filter_map()
        core.add_filter(passes)
    assert stream.push("x", [struct.pack("=QQ", 1, 2)]).events == 1
    passes.update(struct.pack("=Q", 1), PENDING)
    stream.close()
    with pytest.raises(_core.CoreError, match="closed"):
        core.counts()


def test_many_readers_lose_nothing() -> None:
    """Streams and Python's thread read one ring."""
    with scout(512) as core:
        streams = [stream_of(core) for _ in range(3)]
        done = threading.Event()
        taken: list[_core.ScoutNotice] = []

        def take() -> None:
            while not done.is_set():
                taken.extend(core.notices())

        def push(stream: _core.Stream) -> None:
            while not done.is_set():
                stream.push("x", [struct.pack("=QQ", 1, 0)])

        threads = [threading.Thread(target=take)]
        threads += [threading.Thread(target=push, args=(s,)) for s in streams]
        for thread in threads:
            thread.start()
        try:
            pids = [short_lived() for _ in range(20)]
            wait_for(
                lambda: {n.pid for n in taken if n.kind == Kind.NEW} >= set(pids), "all", 10, 0.01
            )
        finally:
            done.set()
            for thread in threads:
                thread.join()
        new = [n.generation for n in taken if n.kind == Kind.NEW and n.pid in pids]
        assert len(new) == len(set(new)) == len(pids)
