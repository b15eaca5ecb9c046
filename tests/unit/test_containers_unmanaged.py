"""Containers without an engine: the runtimes' state, and what processes look like."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_proc import FakeHost
from support.waiting import wait_for

from ig_py.containers import state_dirs
from ig_py.containers.engines import unmanaged as module
from ig_py.containers.engines.clients import EngineClients
from ig_py.containers.engines.unmanaged import UnmanagedContainers
from ig_py.containers.model import Container
from ig_py.containers.oci_bundle import BundleReader, annotated, annotations_of
from ig_py.containers.runtime_state import State, is_same, parse
from ig_py.containers.sources import DiscoverySource
from ig_py.containers.speakers import Claim, Speaker
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

LONG = "ab" * 32


class Engines(EngineClients):
    """Names of engines in place of clients."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.slow: set[str] = set()
        self.chosen: set[str] = set()
        self.complete = False

    @property
    def listed(self) -> bool:
        return self.complete

    def asked(self, engine: str, owner: int | None = None) -> bool:
        return engine in self.names

    def may_answer(self, engine: str, owner: int | None = None) -> bool:
        return engine in self.slow if engine else bool(self.slow)

    def restricted(self, engine: str) -> bool:
        return engine in self.chosen


class Sink:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.engines = Engines()
        self.reported: list[tuple[str, str, str, int]] = []
        self.inits: list[tuple[str, int]] = []
        self.announced: list[Container] = []
        self.ignored: list[str] = []
        self.foreign: list[tuple[str, int | None]] = []

    def known(self, container_id: str, by: Claim) -> bool:
        return container_id in {r[1] for r in self.reported} | set(self.ignored)

    def ignore(self, container_id: str, by: Claim) -> None:
        self.ignored.append(container_id)

    def init_found(
        self, container_id: str, pid: int, source: DiscoverySource, by: Claim, born: int = 0
    ) -> None:
        self.inits.append((container_id, pid))

    def found_unmanaged(
        self, container: Container, pid: int, source: DiscoverySource, by: Claim, born: int = 0
    ) -> None:
        runtime = container.runtime
        self.reported.append((runtime.name, container.id, runtime.container_name, pid))

    def not_own(self, container: Container, by: Claim) -> None:
        self.foreign.append((container.id, by.speaker.user))

    def announce(self, container: Container) -> None:
        self.announced.append(container)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Sink:
    monkeypatch.setattr(module, "FIRST_POLL", 0.02)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    return Sink()


@pytest.fixture
def begin(host: FakeHost, sink: Sink) -> Iterator[Any]:
    running: list[tuple[Reactor, UnmanagedContainers]] = []

    def start(*, report: bool = True) -> UnmanagedContainers:
        reactor = Reactor("test")
        view = host.view
        bundles = BundleReader(view)
        found = UnmanagedContainers(
            view, reactor, sink.engines, sink, bundles, report=report, announce=True
        )
        found.start()
        reactor.start()
        running.append((reactor, found))
        assert found.wait_scanned(10)
        return found

    yield start
    for reactor, found in running:
        reactor.stop()
        found.stop()


def runc(pid: int, start: int = 0, bundle: str = "/b") -> str:
    config = {"labels": ["a=b", f"bundle={bundle}"]}
    return json.dumps({"init_process_pid": pid, "init_process_start": start, "config": config})


def test_state_of_both_runtimes() -> None:
    assert parse(runc(5, 77).encode()) == State(5, 77, "/b")
    crun = {"pid": 6, "process-start-time": 8, "bundle": "/c"}
    assert parse(json.dumps(crun).encode()) == State(6, 8, "/c")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[", b"[]", b"{}", b'{"pid": "1"}', b'{"pid": true}', b'{"pid": -1}', b"\xff",
        b"[" * 100_000, b'{"init_process_pid": 0}',
    ],
)  # fmt: skip
def test_nonsense_is_no_state(raw: bytes) -> None:
    assert parse(raw) is None


def test_odd_labels_are_no_bundle() -> None:
    for config in (None, [], {"labels": "x"}, {"labels": [1, None, "bundle"]}):
        state = parse(json.dumps({"init_process_pid": 1, "config": config}).encode())
        assert state == State(1)


def test_a_process_number_used_again_is_another_process(host: FakeHost) -> None:
    host.process(50, start=1234)
    view = HostView(str(host.root))
    assert is_same(view, State(50, 1234))
    assert not is_same(view, State(50, 1235))
    assert is_same(view, State(50))
    assert not is_same(view, State(51))


def test_state_there_is_and_state_that_comes(host: FakeHost, sink: Sink, begin: Any) -> None:
    for pid in (50, 51, 52, 53):
        host.process(pid, parent=1, start=pid)
    host.write("run/runc/one/state.json", runc(50, 50))
    host.write("run/runc/stale/state.json", runc(50, 49))
    begin()
    assert sink.reported == [("runc", "one", "one", 50)]
    # Parent directories may be created later, too.
    for place in ("run/crun/two/status", f"run/user/{os.getuid()}/crun/three/status"):
        host.write(place, json.dumps({"pid": 51 if "two" in place else 52}))
    wait_for(lambda: len(sink.reported) == 3, "both", 5, 0.01)
    assert set(sink.reported[1:]) == {("crun", "two", "two", 51), ("crun", "three", "three", 52)}
    # runc replaces its file.
    host.write("run/runc/four/state.json", "{}")
    host.write("run/runc/four/tmp", runc(53, 53))
    (host.root / "run/runc/four/tmp").rename(host.root / "run/runc/four/state.json")
    wait_for(lambda: len(sink.reported) == 4, "replaced", 5, 0.01)
    assert {c.id for c in sink.announced} <= {"two", "three", "four"}


def test_announced_containers(host: FakeHost, sink: Sink, begin: Any) -> None:
    (host.root / "run/runc").mkdir(parents=True)
    host.write("b/config.json", '{"annotations": {}}')
    host.process(90, words=("runc", "create", "--bundle", "/b", "one"))
    begin()
    (host.root / "run/runc/one").mkdir()
    (host.root / "run/runc/..odd name").mkdir()
    wait_for(lambda: sink.announced, "announced", 5, 0.01)
    (container,) = sink.announced
    assert (container.id, container.bundle) == ("one", "/b")
    assert container.oci_config == '{"annotations": {}}'
    assert container.runtime.container_name == ""


def test_containers_of_an_engine_are_left_to_it(host: FakeHost, sink: Sink, begin: Any) -> None:
    engines = sink.engines
    engines.names, engines.slow, engines.chosen = (
        {"docker", "containerd"},
        {"docker"},
        {"containerd"},
    )
    for pid, root in ((50, "docker/runtime-runc/moby"), (51, "containerd/runc/k8s.io")):
        leaf = "docker-" if pid == 50 else "cri-containerd-"
        host.process(
            pid, parent=1, mntns=f"m{pid}", levels="1", cgroup=f"/x/{leaf}{pid}{LONG[2:]}.scope"
        )
        host.write(f"run/{root}/{pid}{LONG[2:]}/state.json", runc(pid))
    found = begin()
    wait_for(lambda: len(sink.inits) == 2, "hinted", 5, 0.01)
    wait_for(lambda: set(found._unclaimed) == {50}, "waits for docker only", 5, 0.01)
    assert sink.reported == []
    engines.slow = set()
    wait_for(lambda: sink.reported, "no engine told", 5, 0.01)
    assert sink.reported == [("docker", f"50{LONG[2:]}", f"50{LONG[2:]}", 50)]
    assert found.found_by_processes_only == 1


@pytest.mark.parametrize(
    ("root", "runtime"),
    [("runc", "runc"), ("containerd/runc/default", "containerd"), ("", "unknown")],
)
def test_an_engine_that_may_answer_is_waited_for_when_no_engine_is_named(
    host: FakeHost, sink: Sink, begin: Any, monkeypatch: pytest.MonkeyPatch, root: str, runtime: str
) -> None:
    monkeypatch.setattr(module, "ENGINE_SECONDS", 0.5)
    sink.engines.names = {"docker"}
    sink.engines.slow = {"docker"}
    host.process(50, parent=1, mntns="m", levels="1", cgroup=f"/hand/{LONG}")
    if root:
        host.write(f"run/{root}/{LONG}/state.json", runc(50))
    started = time.monotonic()
    begin()
    assert sink.inits
    assert set(sink.inits) == {(LONG, 50)}
    # Bounded: an engine that stays silent keeps nothing back for ever.
    assert sink.reported == [(runtime, LONG, LONG, 50)]
    assert time.monotonic() - started >= 0.5


def test_what_an_engine_describes_meanwhile_is_not_reported(
    host: FakeHost, sink: Sink, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.engines.slow = {"docker"}
    host.process(50, parent=1, mntns="m", levels="1", cgroup=f"/hand/{LONG}")

    def answer(container_id: str, *_: object) -> None:
        sink.engines.slow = set()
        sink.ignored.append(container_id)

    monkeypatch.setattr(sink, "init_found", answer)
    begin()
    assert sink.reported == []


def test_conmon_names_its_container_at_once(host: FakeHost, sink: Sink, begin: Any) -> None:
    sink.engines.names = {"podman"}
    words = ("/usr/bin/conmon", "--api-version", "1", "-c", LONG, "-n", "web", "-b", "/b")
    host.process(40, parent=1, words=words)
    host.process(49, parent=40, words=("runc",))
    host.process(50, parent=49, start=5)
    host.write("b/config.json", '{"annotations": {"io.container.manager": "libpod"}}')
    host.write(f"run/runc/{LONG}/state.json", runc(50, 5))
    begin(report=False)
    assert sink.reported == [("podman", LONG, "web", 50)]


def test_a_pods_sandbox_is_ignored(host: FakeHost, sink: Sink, begin: Any) -> None:
    host.process(50, parent=1, mntns="pod", levels="1", cgroup=f"/pods/{LONG}")
    notes = {"io.kubernetes.cri.container-type": "sandbox"}
    host.write("b/config.json", json.dumps({"annotations": notes}))
    host.write(f"run/runc/{LONG}/state.json", runc(50))
    begin()
    assert sink.ignored == [LONG]
    assert sink.reported == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"levels": "1", "mntns": "m", "cgroup": "/hand"}, ("unknown", "hand")),
        ({"levels": "1", "mntns": "m", "cgroup": f"/s/crio-{LONG}.scope"}, ("cri-o", LONG)),
        ({"levels": "3\t1", "mntns": "m", "cgroup": f"/docker/x/docker/{LONG}"}, ("unknown", LONG)),
        ({"levels": "", "mntns": "m", "cgroup": "/hand"}, None),
        ({"levels": "2", "mntns": "m", "cgroup": "/hand"}, None),
        ({"levels": "1", "mntns": "host", "cgroup": "/hand"}, None),
        ({"levels": "1", "mntns": "m", "cgroup": "/"}, None),
        ({"levels": "1", "mntns": "m", "cgroup": "/system.slice/db.service"}, None),
        ({"levels": "1", "mntns": "m", "cgroup": "/odd name"}, None),
    ],
)
def test_processes_that_are_an_init(
    host: FakeHost, sink: Sink, begin: Any, given: dict[str, str], found: tuple[str, str] | None
) -> None:
    host.process(50, parent=1, **given)  # type: ignore[arg-type]
    begin()
    expected = [(found[0], found[1], found[1], 50)] if found else []
    assert sink.reported == expected


def test_a_monitor_tells_where_there_are_no_control_groups(
    host: FakeHost, sink: Sink, begin: Any
) -> None:
    host.process(49, parent=1, words=("/usr/bin/conmon", "-c", LONG, "-n", "web"))
    host.process(50, parent=49, mntns="m", levels="1")
    host.process(59, parent=1, words=("/usr/bin/conmon", "-c", "../x", "-n", "web"))
    host.process(60, parent=59, mntns="m", levels="1")
    begin()
    assert sink.reported == [("unknown", LONG, "web", 50)]


def test_a_process_that_comes_later(host: FakeHost, sink: Sink, begin: Any) -> None:
    found = begin()
    host.process(60, parent=1, mntns="m", levels="1", cgroup="/hand")
    wait_for(lambda: sink.reported == [("unknown", "hand", "hand", 60)], "found", 5, 0.01)
    assert found.found_by_processes_only == 1


def test_processes_are_looked_through_only_when_one_began(host: FakeHost, begin: Any) -> None:
    looks: list[int] = []
    found = begin()
    pids = found._view.pids

    def counted() -> list[int]:
        looks.append(1)
        return pids()

    found._view.pids = counted
    loadavg = host.root / "proc/loadavg"
    loadavg.write_text("0.00 0.01 0.05 1/80 70\n")
    wait_for(lambda: looks, "a look, as the last process is another one")
    time.sleep(5 * module.POLL_SECONDS)
    assert len(looks) == 1
    loadavg.write_text("0.00 0.01 0.05 1/80 71\n")
    wait_for(lambda: len(looks) == 2, "a look at the new process")


def test_what_no_listing_has_waits_for_no_other(
    host: FakeHost, sink: Sink, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_POLL", 60.0)
    host.process(50, levels="1", cgroup=f"/docker/{LONG}")
    sink.engines.names.add("docker")
    threading.Timer(0.1, lambda: setattr(sink.engines, "complete", True)).start()
    begin()
    assert [found[3] for found in sink.reported] == [50]


def test_once_the_kernel_tells_of_namespaces_looks_are_rare(
    host: FakeHost, sink: Sink, begin: Any
) -> None:
    found = begin()
    found.told_by_kernel()
    time.sleep(5 * module.POLL_SECONDS)
    host.process(50, levels="1", cgroup=f"/docker/{LONG}")
    time.sleep(5 * module.POLL_SECONDS)
    assert sink.inits == []
    found._reactor.soon(found._look_through)
    wait_for(lambda: sink.reported, "the second look at a container of no engine")


def test_annotations_win_and_crio_has_its_own() -> None:
    notes = {
        "io.container.manager": "cri-o",
        "io.kubernetes.pod.name": "p",
        "io.kubernetes.pod.namespace": "n",
        "io.kubernetes.pod.uid": "u",
        "io.kubernetes.container.name": "c",
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.ImageName": "i",
        "io.kubernetes.cri-o.SandboxID": "s",
    }
    found = annotated(Container(), notes)
    assert found is not None
    assert (found.runtime.name, found.runtime.image_name, found.sandbox_id) == ("cri-o", "i", "s")
    k8s = found.k8s
    assert (k8s.namespace, k8s.pod_name, k8s.pod_uid, k8s.container_name) == ("n", "p", "u", "c")
    notes["io.kubernetes.cri-o.ContainerType"] = "sandbox"
    assert annotated(Container(), notes) is None
    assert annotated(Container(), {"x": "y"}) == Container()
    nerdctl = annotated(Container(), {"nerdctl/name": "web", "nerdctl/namespace": "default"})
    assert nerdctl is not None
    assert (nerdctl.runtime.name, nerdctl.runtime.container_name) == ("containerd", "web")


@pytest.mark.parametrize("config", ["", "[", "[]", '{"annotations": 1}', "[" * 100_000])
def test_odd_configs_have_no_annotations(config: str) -> None:
    assert annotations_of(config) == {}


@pytest.mark.needs("root")
def test_a_users_state_counts_for_that_users_processes(
    host: FakeHost, sink: Sink, begin: Any
) -> None:
    user = 1001
    host.process(50, parent=1, user=user, uid_map="0 1001 1\n")
    host.process(51, parent=1)
    for name, pid in (("mine", 50), ("theirs", 51)):
        host.write(f"run/user/{user}/crun/{name}/status", json.dumps({"pid": pid}))
        host.write(f"run/user/{user + 1}/crun/{name}/status", json.dumps({"pid": pid}))
    for path in (host.root / f"run/user/{user}").rglob("*"):
        os.chown(path, user, user)
    os.chown(host.root / f"run/user/{user}", user, user)
    begin()
    assert sink.reported == [("crun", "mine", "mine", 50)]
    assert sink.foreign == [("theirs", user)]


@pytest.mark.needs("root")
@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_what_is_no_file_of_the_user_is_left(
    host: FakeHost, sink: Sink, begin: Any, kind: str
) -> None:
    user = 1001
    host.process(50, parent=1, user=user, uid_map="0 1001 1\n")
    host.write("secret", json.dumps({"pid": 50}))
    bad = host.root / f"run/user/{user}/runc/bad"
    bad.mkdir(parents=True)
    if kind == "fifo":
        os.mkfifo(bad / "state.json")
    elif kind == "link":
        (bad / "state.json").symlink_to(host.root / "secret")
    else:
        (bad / "state.json").mkdir()
    host.write(f"run/user/{user}/runc/good/state.json", runc(50))
    for path in (bad.parents[1], *bad.parents[1].rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)
    began = time.monotonic()
    begin()
    assert time.monotonic() - began < 5
    assert sink.reported == [("runc", "good", "good", 50)]


@pytest.mark.needs("root")
def test_a_user_has_a_number_of_directories_watched(
    host: FakeHost, sink: Sink, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_dirs, "MAX_USER_WATCHES", 8)
    user = 1001
    for number in range(20):
        host.write(f"run/user/{user}/crun/c{number}/status", "{}")
    for path in (host.root / f"run/user/{user}", *(host.root / f"run/user/{user}").rglob("*")):
        os.chown(path, user, user)
    host.process(50, parent=1)
    (host.root / "run/runc").mkdir()
    found = begin()
    assert found._dirs._queues[False].of(Speaker(user)) == 8
    host.write("run/runc/roots/state.json", runc(50))
    wait_for(lambda: sink.reported, "root's is found all the same", 5, 0.01)
