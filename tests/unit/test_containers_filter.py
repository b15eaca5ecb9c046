"""What follows the collection: names first, then the filter map; a full map; LocalManager."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ig_py.containers.collection import ContainerCollection
from ig_py.containers.ended_rows import EndedRows
from ig_py.containers.engines.config import DEFAULT_SOCKETS, engine_configs, wants_unmanaged
from ig_py.containers.filter_map import FilterMap
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.selector import Selector
from ig_py.containers.stream_sync import MAX_LOST, StreamSync
from ig_py.errors import ContainerError, UsageError
from ig_py.gadget.spec import (
    DataSourceSpec,
    DataSourceType,
    FieldSpec,
    Flag,
    GadgetSpec,
    Kind,
    MapSpec,
    ProgramSpec,
)
from ig_py.host.proc import HostView, Pins
from ig_py.operators.base import Context
from ig_py.operators.local_manager import LocalManager, _refuse_selection
from ig_py.operators.parts import LoadParts
from ig_py.operators.running import Host
from ig_py.records import replace

GOLDEN_FIELDS = Path(__file__).parent.parent / "wire/data/container_fields.json"


def make(number: int, name: str | None = None) -> Container:
    runtime = RuntimeInfo(
        container_id=f"c{number}", container_name=f"n{number}" if name is None else name
    )
    return Container(runtime=runtime, mntns=number, netns=100 + number)


class Journal:
    """A kernel map and a stream that write down what is done to them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.keys: set[int] = set()

    def update(self, key: bytes, value: bytes) -> None:
        assert struct.unpack("=I", value) == (1,)
        (mntns,) = struct.unpack("=Q", key)
        self.keys.add(mntns)
        self.lines.append(f"map+{mntns}")

    def delete(self, key: bytes) -> bool:
        (mntns,) = struct.unpack("=Q", key)
        self.keys.discard(mntns)
        self.lines.append(f"map-{mntns}")
        return True

    def set_container(self, mntns: int, netns: int, values: dict[str, Any]) -> None:
        self.lines.append(f"names+{mntns}/{netns}={values['runtime.containerName']}")

    def end_rows(self, mntns: int, generation: int) -> None:
        self.lines.append(f"rows~{mntns}/{generation}")

    def decide(self, mntns: int, generation: int, verdict: str) -> None:
        self.lines.append(f"{verdict} {mntns}/{generation}")

    def decide_ended(
        self,
        mntns: int,
        generation: int,
        verdict: str,
        ended: tuple[int, dict[str, Any]],
        holder: tuple[int, dict[str, Any]],
    ) -> None:
        first, second = (v.get("runtime.containerName", "") for _, v in (ended, holder))
        self.lines.append(f"{verdict} {mntns}/{generation} of {first!r} before {second!r}")

    def wake(self) -> None:
        pass

    def end_container(self, mntns: int) -> None:
        self.lines.append(f"names~{mntns}")

    def drop_container(self, mntns: int) -> None:
        self.lines.append(f"names-{mntns}")


def synced(
    selector: Selector,
    entries: int = 10,
    *,
    host: bool = False,
    ended: EndedRows | None = None,
) -> tuple[ContainerCollection, Journal]:
    journal = Journal()
    collection = ContainerCollection(grace=0)
    filter_map = None if host else FilterMap(journal, entries)  # type: ignore[arg-type]
    collection.subscribe("sync", StreamSync(journal, filter_map, selector, None, ended))
    return collection, journal


@pytest.mark.parametrize("host", [False, True])
def test_a_container_that_ended_before_takes_no_number_from_a_later_one(host: bool) -> None:
    """The later one was taken in by another source before the scout's notices were read."""
    journal, pins = Journal(), Pins(mnt_fd=os.open("/dev/null", os.O_RDONLY))
    collection = ContainerCollection(grace=0)
    filter_map = None if host else FilterMap(journal, 10)  # type: ignore[arg-type]
    admission: Any = SimpleNamespace(withdraw=lambda *_: journal.lines.append("withdrawn"))
    sync = StreamSync(journal, filter_map, Selector(), admission)
    collection.subscribe("sync", sync)
    later, earlier = make(7, "later"), replace(make(7, "earlier"), runtime=make(8).runtime)
    assert collection.add(later, pins)
    journal.lines.clear()
    assert collection.add(earlier, generation=5)
    assert collection.remove(earlier.id, generation=5)
    assert journal.lines == ["keep 7/5 of 'n8' before 'later'"]
    assert collection.by_mntns(7) is later
    collection.expire()
    assert collection.by_mntns(7) is later
    sync.reject(7, 4, lose=False)
    assert journal.lines[1:] == (
        ["keep 7/4 of '' before 'later'"] if host else ["withdrawn", "reject 7/4"]
    )
    journal.lines.clear()
    collection.remove(later.id)
    collection.expire()
    assert collection.by_mntns(7) is None
    assert journal.lines[-1] == "names-7"
    # The number is free: the next one that has ended gets it.
    assert collection.add(earlier, generation=9)
    assert "names+7/107=n8" in journal.lines


@pytest.mark.parametrize("host", [False, True])
def test_the_rows_of_a_container_end_with_it(host: bool) -> None:
    ended = EndedRows(frozenset({"calls"}))
    collection, journal = synced(Selector(), host=host, ended=ended)
    collection.add(make(1))
    assert ended.due() is None
    collection.remove("c1")
    assert journal.lines[-2:] == ["names~1", "rows~1/0"]
    assert ended.due() is not None


def test_the_rows_of_a_namespace_that_is_no_container() -> None:
    for host in (False, True):
        ended, journal = EndedRows(frozenset({"calls"})), Journal()
        filter_map = None if host else FilterMap(journal, 10)  # type: ignore[arg-type]
        sync = StreamSync(journal, filter_map, Selector(), None, ended)
        own = Path("/proc/self/ns/mnt").stat().st_ino
        sync.announced(own, "/proc/self")
        before = pinned(own)
        assert before
        sync.reject(own, 7, lose=False)
        # With --host its rows are shown, and nothing tells when it ends.
        assert (f"rows~{own}/7" in journal.lines, ended.due() is not None) == (not host,) * 2
        assert pinned(own) == (0 if host else before)
        ended.close()
        assert not pinned(own)


def pinned(mntns: int) -> int:
    """Descriptors of this process that keep that mount namespace."""
    found = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(path.readlink()) == f"mnt:[{mntns}]"
    return found


def test_names_before_admission_and_until_the_grace_time_is_over() -> None:
    collection, journal = synced(Selector())
    collection.add(make(1))
    collection.remove("c1")
    assert journal.lines == ["names+1/101=n1", "map+1", "map-1", "names~1"]
    collection.expire()
    assert journal.lines[4:] == ["names-1"]


def test_only_the_selected_enter_but_all_have_names() -> None:
    collection, journal = synced(Selector.parse(container_name="n2"))
    for number in (1, 2):
        collection.add(make(number))
    assert journal.keys == {2}
    assert journal.lines == ["names+1/101=n1", "names+2/102=n2", "map+2"]


def test_a_rename_moves_a_container_in_and_out() -> None:
    collection, journal = synced(Selector.parse(container_name="wanted"))
    collection.add(make(1))
    assert journal.keys == set()
    collection.update(make(1, "wanted"))
    assert journal.keys == {1}
    collection.update(make(1, "else"))
    assert journal.keys == set()


def test_a_nameless_container_is_a_pause_container() -> None:
    collection, journal = synced(Selector())
    collection.add(make(1, ""))
    assert journal.keys == set()


def test_a_container_without_a_known_namespace_changes_nothing() -> None:
    collection, journal = synced(Selector())
    collection.add(make(0))
    collection.remove("c0")
    collection.expire()
    assert journal.lines == []


def test_host_mode_gives_names_only() -> None:
    collection, journal = synced(Selector.parse(container_name="n2"), host=True)
    collection.add(make(1))
    collection.remove("c1")
    assert journal.lines == ["names+1/101=n1", "names~1"]


def test_a_second_decision_follows_the_same_selector() -> None:
    class Stream(Journal):
        def decide(self, mntns: int, generation: int, verdict: str) -> None:
            self.lines.append(f"{verdict} {mntns}/{generation}")

    journal = Stream()
    filter_map = FilterMap(journal, 10)  # type: ignore[arg-type]
    sync = StreamSync(journal, filter_map, Selector.parse(container_name="n2"))  # type: ignore[arg-type]
    for number in (1, 2):
        sync.readmit(make(number), 70 + number)
    assert journal.lines == ["reject 1/71", "map+2", "keep 2/72"]


class Admitting(Journal):
    """A stream whose events wait, and the admission that decides about them."""

    def decide(self, mntns: int, generation: int, verdict: str) -> None:
        self.lines.append(f"{verdict} {mntns}/{generation}")

    def withdraw(self, _filter: object, mntns: int, generation: int) -> None:
        self.lines.append(f"withdraw {mntns}/{generation}")


def admitting(selector: Selector) -> tuple[ContainerCollection, Admitting]:
    journal = Admitting()
    collection = ContainerCollection(grace=0)
    filter_map = FilterMap(journal, 10)  # type: ignore[arg-type]
    sync = StreamSync(journal, filter_map, selector, journal)  # type: ignore[arg-type]
    collection.subscribe("sync", sync)
    return collection, journal


def test_one_that_has_ended_is_decided_about_by_its_generation() -> None:
    collection, journal = admitting(Selector())
    collection.add(make(1), generation=70)
    collection.remove("c1", 70)
    assert journal.lines == ["names+1/101=n1", "keep 1/70", "withdraw 1/70", "names~1"]


def test_events_of_an_unnamed_container_are_lost_where_some_are_selected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collection, journal = admitting(Selector.parse(container_name="n1"))
    collection.add(make(1), named=False)
    # In the filter map: what passes it is counted.
    assert journal.lines == ["names+1/101=n1", "map+1", "lose 1/0"]
    assert "no engine has told its name" in caplog.text
    collection, journal = admitting(Selector())
    collection.add(make(1), named=False)
    assert journal.lines == ["names+1/101=n1", "map+1", "keep 1/0"]


@pytest.mark.parametrize("name", ["n1", "else"])
def test_a_name_that_is_told_late_ends_the_loss(name: str) -> None:
    collection, journal = admitting(Selector.parse(container_name="n1"))
    collection.add(make(1, "0123"), named=False)
    collection.update(make(1, name))
    ends = ["keep 1/0"] if name == "n1" else ["map-1", "reject 1/0"]
    assert journal.lines[-len(ends) :] == ends
    assert journal.keys == ({1} if name == "n1" else set())


def test_a_container_without_a_name_stays_lost_when_the_kernel_forgot_it() -> None:
    journal = Admitting()
    filter_map = FilterMap(journal, 10)  # type: ignore[arg-type]
    sync = StreamSync(journal, filter_map, Selector.parse(container_name="n1"), journal)  # type: ignore[arg-type]
    collection = ContainerCollection(grace=0)
    collection.subscribe("sync", sync)
    collection.add(make(1, "0123"), named=False)
    sync.readmit(make(1, "0123"), 71)
    assert journal.lines[-1] == "lose 1/71"
    assert journal.keys == {1}


def test_namespaces_that_nobody_can_identify_stay_in_the_filter_up_to_a_number() -> None:
    journal = Admitting()
    filter_map = FilterMap(journal, 10)  # type: ignore[arg-type]
    sync = StreamSync(journal, filter_map, Selector.parse(container_name="n1"), journal)  # type: ignore[arg-type]
    for number in range(1, MAX_LOST + 3):
        sync.reject(number, 10_000 + number, lose=True)
    withdrawn = [line for line in journal.lines if line.startswith("withdraw")]
    assert withdrawn == ["withdraw 1/10001", "withdraw 2/10002"]
    sync.reject(7, 20_000, lose=False)
    assert journal.lines[-2:] == ["withdraw 7/20000", "reject 7/20000"]


def test_a_full_map_is_said_once_and_filled_when_there_is_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collection, journal = synced(Selector(), entries=2)
    for number in range(1, 6):
        collection.add(make(number))
    assert journal.keys == {1, 2}
    assert [r.getMessage().count("'n3'") for r in caplog.records] == [1]
    collection.remove("c4")
    collection.remove("c1")
    assert journal.keys == {2, 3}
    collection.remove("c2")
    assert journal.keys == {3, 5}
    collection.remove("c3")
    collection.remove("c5")
    assert journal.keys == set()


def gadget(*fields: tuple[str, str], **spec: Any) -> Context:
    ds = DataSourceSpec("exec", DataSourceType.SINGLE)
    for index, (name, type_name) in enumerate(fields):
        tags = [f"type:{type_name}"]
        ds.fields.append(FieldSpec(name, name, index, Kind.UINT64, tags=tags))
    ds.payloads = 1
    return Context(GadgetSpec("g", {}, [ds], **spec))


def test_fields_are_those_of_ig() -> None:
    expected = json.loads(GOLDEN_FIELDS.read_text())
    first = expected[0]["index"]
    ctx = gadget(*((f"f{i}", "gadget_mntns_id" if i == 5 else "x") for i in range(first)))
    assert LocalManager().instantiate(ctx)
    ds = ctx.spec.datasources[0]
    added = [
        {
            "fullName": f.full_name,
            "index": f.index,
            "payloadIndex": f.payload_index,
            "flags": int(f.flags),
            "kind": int(f.kind),
            "tags": f.tags,
            "annotations": f.annotations,
            "parent": f.parent,
            "order": f.order,
        }
        for f in ds.fields[first:]
    ]
    assert added == expected
    (step,) = ctx.plan.steps["exec"]
    assert step.priority == 0
    assert step.body["op"] == "container"
    assert (step.body["mntns"], step.body["netns"]) == (5, None)
    filled = {f["fullName"]: f["index"] for f in expected if not f["flags"] & Flag.EMPTY}
    assert step.body["fields"] == filled
    assert set(Container().event_values()) == set(filled) - {"k8s.node"}


def test_inactive_without_anything_about_containers() -> None:
    ctx = gadget(("a", "x"))
    assert not LocalManager().instantiate(ctx)
    assert ctx.spec.params == []
    assert len(ctx.spec.datasources[0].fields) == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"maps": [MapSpec("gadget_mntns_filter_map", 1, 8, 4, 1024)]},
        {"programs": [ProgramSpec("p", "classifier/ingress")]},
        {"programs": [ProgramSpec("p", "tcx/egress")]},
    ],
)
def test_active_without_fields(spec: dict[str, Any]) -> None:
    ctx = gadget(("a", "x"), **spec)
    assert LocalManager().instantiate(ctx)
    assert ctx.plan.steps == {}
    assert [(p.full_name.rpartition(".")[2], p.alias, p.default) for p in ctx.spec.params] == [
        ("k8s-podname", "", ""),
        ("k8s-namespace", "", ""),
        ("k8s-selector", "", ""),
        ("k8s-containername", "", ""),
        ("containername", "c", ""),
        ("runtime-containerimage-digest", "", ""),
        ("runtime-containerimage-id", "", ""),
        ("host", "", "false"),
    ]
    assert all(p.full_name.startswith("operator.LocalManager.") for p in ctx.spec.params)


def test_the_network_namespace_alone_is_enough_and_the_first_field_counts() -> None:
    ctx = gadget(("a", "gadget_netns_id"), ("b", "gadget_netns_id"))
    assert LocalManager().instantiate(ctx)
    (step,) = ctx.plan.steps["exec"]
    assert (step.body["mntns"], step.body["netns"]) == (None, 0)
    assert any("gadget_netns_id" in note for note in ctx.spec.datasources[0].notes)


def test_global_params() -> None:
    params = {p.key: p.default for p in LocalManager.global_params()}
    assert params == {
        "runtimes": "docker,containerd,cri-o,podman",
        "docker-socketpath": "/run/docker.sock",
        "containerd-socketpath": "/run/containerd/containerd.sock",
        "crio-socketpath": "/run/crio/crio.sock",
        "podman-socketpath": "/run/podman/podman.sock",
        "containerd-namespace": "",
        "runtime-protocol": "internal",
        "enrich-with-k8s-apiserver": "false",
        "identify-timeout": "2s",
        "hold-containers": "false",
        "hold-timeout": "10s",
        "kubeconfig": "",
    }


def run_params(**given: str) -> Context:
    ctx = gadget(("mntns", "gadget_mntns_id"))
    values = {p.full_name: p.default for p in LocalManager.global_params()}
    values |= {f"operator.LocalManager.{k.replace('_', '-')}": v for k, v in given.items()}
    ctx.params = values
    return ctx


@pytest.mark.parametrize(
    ("given", "error", "names"),
    [
        ({"runtimes": "foo"}, UsageError, "foo"),
        ({"podman_socketpath": "/nonexistent/p.sock"}, ContainerError, "podman"),
        ({"containerd_socketpath": "/x/c.sock"}, ContainerError, "containerd"),
        ({"docker_socketpath": "/nonexistent/d.sock"}, ContainerError, "/nonexistent/d.sock"),
        ({"runtime_protocol": "ttrpc"}, UsageError, "--runtime-protocol"),
        ({"enrich_with_k8s_apiserver": "true"}, UsageError, "--enrich-with-k8s-apiserver"),
        ({"kubeconfig": "/etc/kubeconfig"}, UsageError, "--kubeconfig"),
        ({"host": "maybe"}, UsageError, "--host"),
        ({"k8s_selector": "a"}, UsageError, "key=value"),
    ],
)
def test_impossible_filters_are_refused_before_the_start(
    given: dict[str, str], error: type[Exception], names: str
) -> None:
    ctx = run_params(**given)
    operator = LocalManager()
    operator.instantiate(ctx)
    with pytest.raises(error, match=names):
        operator.pre_start(ctx, LoadParts(), Host(HostView()))
    operator.stop()


def test_default_runtimes_are_looked_for_where_they_usually_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DOCKER", "CONTAINERD", "CRIO", "PODMAN"):
        monkeypatch.delenv(f"INSPEKTOR_GADGET_{name}_SOCKETPATH", raising=False)
    user = os.getuid()
    for name in (str(user), str(user + 1), "x", f"0{user}"):
        rootless = tmp_path / "run/user" / name / "podman/podman.sock"
        rootless.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(rootless))
    configs = engine_configs(",".join(DEFAULT_SOCKETS), {}, HostView(str(tmp_path)))
    assert [(c.name, c.socket_path.removeprefix(str(tmp_path))) for c in configs] == [
        ("containerd", "/run/containerd/containerd.sock"),
        ("cri-o", "/run/crio/crio.sock"),
        ("docker", "/run/docker.sock"),
        ("podman", "/run/podman/podman.sock"),
        ("podman", f"/run/user/{user}/podman/podman.sock"),
    ]
    assert not any(c.explicit for c in configs)


def test_dockers_containers_are_left_to_docker(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    view, names = HostView(str(tmp_path)), ",".join(DEFAULT_SOCKETS)

    def others() -> tuple[str, ...]:
        configs = engine_configs(names, {}, view)
        return next(c.others_namespaces for c in configs if c.name == "containerd")

    assert others() == ()
    (tmp_path / "run/docker.sock").touch()
    assert others() == ("moby",)


def test_containers_without_an_engine_are_wanted_with_all_engines_or_by_name() -> None:
    assert wants_unmanaged("podman,docker,cri-o,containerd")
    assert wants_unmanaged("runc")
    assert not wants_unmanaged("docker")
    assert not wants_unmanaged("")
    assert engine_configs("runc", {}, HostView()) == []


def test_sockets_from_the_environment_and_below_the_host_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/d.sock").touch()
    monkeypatch.setenv("INSPEKTOR_GADGET_DOCKER_SOCKETPATH", "/x/d.sock")
    (config,) = engine_configs("docker", {}, HostView(str(tmp_path)))
    assert (config.socket_path, config.explicit) == (f"{tmp_path}/x/d.sock", True)


@pytest.mark.parametrize(
    ("flag", "section", "refused"),
    [
        ("containername", "tracepoint/a/b", True),
        ("runtime-containername", "kprobe/f", True),
        ("k8s-podname", "raw_tp/x", True),
        ("runtime-containerimage-id", "iter/task", True),
        ("containername", "uprobe/bash:f", False),
        ("containername", "classifier/ingress/x", False),
    ],
)
def test_the_whole_host_and_a_choice_of_containers(flag: str, section: str, refused: bool) -> None:
    ctx = gadget(("a", "gadget_mntns_id"), programs=[ProgramSpec("p", section)])
    ctx.params[f"operator.LocalManager.{flag}"] = "web"
    assert LocalManager().instantiate(ctx)
    if not refused:
        _refuse_selection(ctx)
        return
    with pytest.raises(UsageError, match=f"--{flag} has no effect with --host"):
        _refuse_selection(ctx)
