"""LocalManager with a real kernel map and the core's pipeline, and an engine that pretends."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.bpf_ids import ids
from support.fake_cri import FakeContainer as CriContainer
from support.fake_cri import FakeCri
from support.fake_docker import FakeContainer, FakeDocker, container_id, fake_docker
from support.waiting import wait_for

from ig_py import _core
from ig_py.containers.filter_map import FilterMap
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.gadget.spec import (
    DataSourceSpec,
    DataSourceType,
    FieldSpec,
    Flag,
    GadgetSpec,
    Kind,
    MapSpec,
    VariableSpec,
)
from ig_py.host.proc import HostView
from ig_py.operators.base import Context
from ig_py.operators.local_manager import FILTER_MAP, FILTER_SWITCH, LocalManager
from ig_py.operators.parts import LoadParts
from ig_py.operators.running import Host, Running
from ig_py.runtime.plan import DataSourceOutput, PlanSettings, compile_plan

pytestmark = [pytest.mark.any_kernel, pytest.mark.needs("root", "bpf")]
SELECTED = struct.pack("=I", 1)


def namespaces(kernel_map: _core.Map) -> set[int]:
    """Without the namespaces of other processes, which are in the map while they are pending."""
    keys = [key for key in kernel_map.keys() if kernel_map.lookup(key) == SELECTED]  # noqa: SIM118
    return {struct.unpack("=Q", key)[0] for key in keys}


def make(number: int) -> Container:
    runtime = RuntimeInfo(container_id=f"c{number}", container_name=f"n{number}")
    return Container(runtime=runtime, mntns=number)


def test_the_kernel_map_follows_containers_and_is_freed() -> None:
    filter_map = FilterMap.create(4)
    map_id = filter_map.map.id
    assert ids("map")[map_id].startswith("mntnsset_")
    for number in range(1, 7):
        filter_map.add(make(number))
    assert namespaces(filter_map.map) == {1, 2, 3, 4}
    filter_map.add(make(1))
    assert len(filter_map) == 4
    for number in (1, 2, 5):
        filter_map.remove(number)
    assert namespaces(filter_map.map) == {3, 4, 6}
    filter_map.close()
    assert map_id not in ids("map")


def test_more_containers_than_gadgets_declare_room_for() -> None:
    filter_map = FilterMap.create()
    try:
        for number in range(1, 2001):
            filter_map.add(make(number))
        assert namespaces(filter_map.map) == set(range(1, 2001))
        for number in range(1, 2001, 2):
            filter_map.remove(number)
        assert namespaces(filter_map.map) == set(range(2, 2001, 2))
    finally:
        filter_map.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeDocker]:
    with fake_docker(tmp_path) as fake:
        yield fake


@contextmanager
def container_process() -> Iterator[int]:
    """A process in a mount and network namespace of its own."""
    # unshare executes sleep in the process it is itself.
    child = subprocess.Popen(["unshare", "--mount", "--net", "sleep", "300"])
    try:
        ours = Path("/proc/self/ns/net").stat().st_ino
        wait_for(
            lambda: (
                Path(f"/proc/{child.pid}/ns/net").stat().st_ino != ours
                and Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n"
            ),
            "unshared",
            10,
            0.01,
        )
        yield child.pid
    finally:
        child.kill()
        child.wait()


@dataclass
class Managed:
    """A gadget with LocalManager started."""

    spec: GadgetSpec
    load: LoadParts
    running: Running


@contextmanager
def managed(
    engine: FakeDocker | None,
    metadata: dict[str, Any] | None = None,
    produced: list[bytes] | None = None,
    **params: str,
) -> Iterator[Managed]:
    """LocalManager started for a gadget whose events are one mount namespace id."""
    field = FieldSpec("mntns_id", "mntns_id", 0, Kind.UINT64, size=8, flags=Flag.STATIC_MEMBER)
    field.tags = ["type:gadget_mntns_id"]
    ds = DataSourceSpec("ds", DataSourceType.SINGLE, sample_size=8, fields=[field], payloads=1)
    spec = GadgetSpec(
        "g",
        metadata or {},
        [ds],
        maps=[MapSpec(FILTER_MAP, 1, 8, 4, 16)],
        variables=[VariableSpec(FILTER_SWITCH, ".rodata", 0, 1)],
    )
    prefix = "operator.LocalManager."
    given = {prefix + key.replace("_", "-"): value for key, value in params.items()}
    if engine is not None:
        given[prefix + "docker-socketpath"] = str(engine.path)
    ctx = Context(spec, params=given)
    operator = LocalManager()
    assert operator.instantiate(ctx)
    outputs = {name: DataSourceOutput(mode="json") for name in ("ds", "containers")}
    plan = compile_plan(spec, ctx.plan, PlanSettings(outputs, readers=False))
    stream = _core.pipeline(plan)

    def emit(datasource: str, samples: Sequence[bytes]) -> None:
        if produced is not None:
            produced.append(stream.push(datasource, samples).data)

    host = Host(HostView.from_env())
    started = Managed(spec, LoadParts(), Running(host, stream, None, emit))
    try:
        ctx.params = {prefix + "runtimes": "docker", **ctx.params}
        operator.pre_start(ctx, started.load, host)
        operator.start(ctx, started.running)
        yield started
    finally:
        operator.stop()
        stream.close()


def event(managed: Managed, mntns: int) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(
        managed.running.stream.push("ds", [struct.pack("=Q", mntns)]).data
    )
    return found


def mntns_of(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/mnt").stat().st_ino


def test_events_are_enriched_while_a_container_lives_and_a_little_longer(
    engine: FakeDocker,
) -> None:
    with container_process() as pid:
        mntns = mntns_of(pid)
        there = FakeContainer(container_id(1), 'c"1\x1b[2J', pid=pid)
        engine.add(there)
        with managed(engine) as gadget:
            assert gadget.load.constants == {FILTER_SWITCH: True}
            kernel_map = gadget.load.maps[FILTER_MAP]
            map_id = kernel_map.id
            assert namespaces(kernel_map) == {mntns}
            runtime = event(gadget, mntns)["runtime"]
            assert runtime == {
                "containerId": there.id,
                "containerImageDigest": "sha256:" + "cd" * 32,
                "containerImageName": "bb:latest",
                "containerName": 'c"1\x1b[2J',
                "containerPid": pid,
                "containerStartedAt": Path(f"/proc/{pid}").stat().st_mtime_ns,
                "runtimeName": "docker",
            }
            assert event(gadget, 12345)["runtime"]["containerName"] == ""
            subprocess.run(["kill", "-9", str(pid)], check=True)
            wait_for(lambda: not namespaces(kernel_map), "left the map", 5, 0.01)
            assert event(gadget, mntns)["runtime"] == runtime
            wait_for(
                lambda: event(gadget, mntns)["runtime"]["containerName"] == "",
                "forgotten",
                10,
                0.05,
            )
    assert map_id not in ids("map")


def test_only_selected_containers_enter_the_map(engine: FakeDocker) -> None:
    with container_process() as one, container_process() as two:
        engine.add(FakeContainer(container_id(1), "one", pid=one))
        with managed(engine, runtime_containername="two,three") as gadget:
            kernel_map = gadget.load.maps[FILTER_MAP]
            assert namespaces(kernel_map) == set()
            second = FakeContainer(container_id(2), "two", pid=two)
            engine.begin(second)
            wait_for(lambda: namespaces(kernel_map) == {mntns_of(two)}, "admitted", 10, 0.01)
            assert event(gadget, mntns_of(one))["runtime"]["containerName"] == "one"
            engine.rename(second, "four")
            wait_for(lambda: not namespaces(kernel_map), "renamed out", 10, 0.01)
            assert event(gadget, mntns_of(two))["runtime"]["containerName"] == "four"


@pytest.mark.parametrize(
    ("params", "chosen"),
    [
        ({"containername": "one"}, {"one"}),
        ({"containername": "!one"}, {"two"}),
        ({"containername": "one,two"}, {"one", "two"}),
        ({"containername": "one,!one"}, set()),
        ({"runtime_containerimage_digest": "sha256:" + "cd" * 6}, {"one", "two"}),
        ({"runtime_containerimage_digest": "cd" * 32}, {"one", "two"}),
        ({"runtime_containerimage_digest": "!" + "cd" * 6}, set()),
        ({"runtime_containerimage_digest": "cd"}, set()),
        ({"runtime_containerimage_id": "ab" * 7}, {"one", "two"}),
        ({"runtime_containerimage_id": "cd" * 7}, set()),
        ({"k8s_namespace": "shop"}, {"one"}),
        ({"k8s_namespace": "!shop"}, {"two"}),
        ({"k8s_podname": "pod-one,pod-two"}, {"one"}),
        ({"k8s_containername": "main"}, {"one"}),
        ({"k8s_namespace": "shop", "k8s_containername": "!main"}, set()),
    ],
)
def test_every_selector_decides(
    engine: FakeDocker, params: dict[str, str], chosen: set[str]
) -> None:
    pod = {"container.name": "main", "pod.name": "pod-one", "pod.namespace": "shop"}
    labels = {f"io.kubernetes.{key}": value for key, value in pod.items()}
    with container_process() as one, container_process() as two:
        pids = {"one": one, "two": two}
        engine.add(FakeContainer(container_id(1), "one", pid=one, labels=labels))
        engine.add(FakeContainer(container_id(2), "two", pid=two))
        with managed(engine, **params) as gadget:
            wanted = {mntns_of(pids[name]) for name in chosen}
            assert namespaces(gadget.load.maps[FILTER_MAP]) == wanted
            # Containers that are not selected are named, too.
            names = {name: event(gadget, mntns_of(pid)) for name, pid in pids.items()}
            assert all(e["runtime"]["containerName"] == name for name, e in names.items())


def test_labels_of_pods_select(tmp_path: Path) -> None:
    fake = FakeCri(tmp_path / "cri.sock")
    fake.start()
    try:
        with container_process() as pid:
            fake.add(CriContainer(container_id(1), pid=pid))
            for selector, selected in (
                ("app=x", True),
                ("app=!x", False),
                ("app=!y", True),
                ("!app=y", True),
                ("app=x,tier=db", False),
            ):
                given = {"crio_socketpath": str(fake.path), "k8s_selector": selector}
                with managed(None, runtimes="cri-o", **given) as gadget:
                    wanted = {mntns_of(pid)} if selected else set()
                    assert namespaces(gadget.load.maps[FILTER_MAP]) == wanted, selector
    finally:
        fake.stop()


def test_host_mode_has_no_filter_but_names(engine: FakeDocker) -> None:
    with container_process() as pid:
        engine.add(FakeContainer(container_id(1), "one", pid=pid))
        with managed(engine, host="true") as gadget:
            assert gadget.load.maps == {}
            assert gadget.load.constants == {}
            assert event(gadget, mntns_of(pid))["runtime"]["containerName"] == "one"


def test_a_missing_engine_is_reported_once_and_awaited(
    engine: FakeDocker, caplog: pytest.LogCaptureFixture
) -> None:
    with container_process() as pid:
        engine.add(FakeContainer(container_id(1), "one", pid=pid))
        engine.override["/version"] = lambda: b"broken"
        with managed(engine) as gadget:
            assert sum("--host" in r.getMessage() for r in caplog.records) == 1
            engine.override.clear()
            kernel_map = gadget.load.maps[FILTER_MAP]
            wait_for(lambda: namespaces(kernel_map) == {mntns_of(pid)}, "admitted", 10, 0.01)


def test_an_engine_that_hangs_delays_the_start_a_little_only(
    engine: FakeDocker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ig_py.containers.tracker.LIST_SECONDS", 0.3)
    with container_process() as pid:
        engine.add(FakeContainer(container_id(1), "one", pid=pid))
        engine.hang.set()
        with managed(engine) as gadget:
            assert "has answered yet" in caplog.text
            engine.hang.clear()
            kernel_map = gadget.load.maps[FILTER_MAP]
            wait_for(lambda: namespaces(kernel_map) == {mntns_of(pid)}, "admitted", 15, 0.01)


def test_the_containers_data_source_has_events(engine: FakeDocker) -> None:
    asked = {"annotations": {"enable-containers-datasource": "true"}}
    produced: list[bytes] = []

    def told() -> list[dict[str, Any]]:
        return [json.loads(data) for data in list(produced)]

    with container_process() as one, container_process() as two, container_process() as other:
        engine.add(FakeContainer(container_id(1), "one", pid=one))
        engine.add(FakeContainer(container_id(3), "other", pid=other))
        with managed(engine, asked, produced, containername="one,two") as gadget:
            ds = gadget.spec.datasource("containers")
            assert ds is not None
            assert ds.annotations == {"cli.default-output-mode": "none"}
            assert [f.name for f in ds.fields] == [
                "event_type",
                "container_id",
                "cgroup_id",
                "mntns_id",
                "name",
                "container_config",
            ]
            (first,) = told()
            wait_for(engine.subscribers, "subscribed", 5, 0.01)
            engine.begin(FakeContainer(container_id(2), "two", pid=two))
            wait_for(lambda: len(produced) == 2, "two begins", 5, 0.01)
            subprocess.run(["kill", "-9", str(one)], check=True)
            wait_for(lambda: len(produced) == 3, "one ends", 5, 0.01)
            events = told()
    assert first["container_id"] == container_id(1)
    assert first["mntns_id"] and "cgroup_id" in first and "container_config" in first
    assert [(e["event_type"], e["name"]) for e in events] == [
        ("CREATED", "one"),
        ("CREATED", "two"),
        ("DELETED", "one"),
    ]


def test_with_the_host_itself(engine: FakeDocker) -> None:
    asked = {"annotations": {"enable-containers-datasource": "true"}}
    produced: list[bytes] = []
    with managed(engine, asked, produced, host="true"):
        (event,) = [json.loads(data) for data in produced]
    assert (event["event_type"], event["container_id"]) == ("CREATED", "")
