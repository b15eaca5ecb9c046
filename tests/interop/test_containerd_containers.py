"""Containers of a real containerd, through its own protocol and through CRI."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.containerd import Containerd, needed_containerd
from support.cri import Cri
from support.image_archive import NAME
from support.waiting import wait_for

from ig_py.containers.collection import Event
from ig_py.containers.discovery import Discovery
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.learnt_roots import LearntRoots
from ig_py.containers.model import Container
from ig_py.containers.runtime_executions import RuntimeExecutions

pytestmark = pytest.mark.needs("root", "containerd", "busybox")


@pytest.fixture(scope="module")
def engine() -> Iterator[Containerd]:
    with (
        tempfile.TemporaryDirectory(prefix="ig") as path,
        needed_containerd(Path(path), cri=True) as started,
    ):
        for namespace in ("default", "other", "k8s.io"):
            started.load(namespace)
        started.load_pause()
        yield started


class Seen(list[tuple[str, Container]]):
    def on(self, event: Event) -> None:
        self.append((event.type.value, event.container))

    def kinds(self, name: str) -> list[str]:
        return [kind for kind, c in self if c.runtime.container_name == name]


@contextmanager
def watching(engine: Containerd, **config: object) -> Iterator[Seen]:
    found = EngineConfig("containerd", str(engine.socket), True, **config)  # type: ignore[arg-type]
    discovery = Discovery([found], oci_configs=True)
    seen = Seen()
    discovery.collection.subscribe(seen.on, seen.on)
    discovery.start()
    try:
        assert discovery.wait_listed(30)
        yield seen
    finally:
        discovery.stop()


@pytest.mark.parametrize("how", ["asked", "learnt"])
def test_creation_is_announced_below_a_root_that_the_container_has(
    engine: Containerd, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with runtimes of the Kubernetes plugin that are configured with a Root."""
    if how == "asked":
        monkeypatch.setattr(RuntimeExecutions, "start", lambda _: None)
    else:
        monkeypatch.setattr(LearntRoots, "told", lambda *_: None)
    options = ("--snapshotter=native", "--null-io", "--net-host", f"--runc-root={tmp_path / 'r'}")
    with watching(engine) as seen:
        for name in ("rooted-one", "rooted-two"):
            engine.ctr("run", "-d", *options, NAME, name, "sleep", "1000")
            wait_for(lambda: "CREATED" in seen.kinds(name), "created", 10, 0.01)  # noqa: B023
            kinds = [kind for kind, container in seen if container.id == name]
            assert kinds[:2] == ["PRECREATE", "CREATED"]
            assert kinds.count("PRECREATE") == 1
    for name in ("rooted-one", "rooted-two"):
        engine.kill(name)


def mntns(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/mnt").stat().st_ino


def test_a_container_that_runs_already(engine: Containerd) -> None:
    engine.run("early", "sleep", "1000", namespace="other")
    with watching(engine) as seen:
        (container,) = [c for _, c in seen if c.id == "early"]
    assert container.mntns == mntns(container.runtime.pid)
    runtime = container.to_json()["runtime"]
    assert runtime["runtimeName"] == "containerd"
    assert runtime["containerName"] == "early"
    assert runtime["containerImageName"] == NAME
    images = engine.ctr("images", "ls", namespace="other")
    assert runtime["containerImageDigest"] in images
    assert runtime["containerImageId"].startswith("sha256:")
    assert runtime["containerImageId"] != runtime["containerImageDigest"]
    assert json.loads(container.oci_config)["process"]["args"] == ["sleep", "1000"]
    assert container.cgroup_v2 == "/other/early"
    with watching(engine, namespaces=("default",)) as seen:
        assert not seen
    engine.kill("early", "other")


def test_containers_come_and_go(engine: Containerd) -> None:
    with watching(engine) as seen:
        engine.run("later", "sleep", "1000")
        wait_for(lambda: seen.kinds("later") == ["CREATED"], "created", 10)
        (pid,) = [c.runtime.pid for _, c in seen if c.runtime.container_name == "later"]
        subprocess.run(["kill", "-9", str(pid)], check=True)
        wait_for(lambda: seen.kinds("later") == ["CREATED", "DELETED"], "deleted", 5, 0.01)
        with pytest.raises(subprocess.CalledProcessError):
            engine.run("never", "no-such-program")
        engine.run("last", "sleep", "1000")
        wait_for(lambda: seen.kinds("last") == ["CREATED"], "created", 10)
    for name in ("later", "last"):
        engine.kill(name)


@pytest.mark.parametrize("protocol", ["internal", "cri"])
def test_pods(engine: Containerd, protocol: str) -> None:
    with closing(Cri(engine.socket)) as cri:
        pod = cri.pod(f"pod-{protocol}", {"app": "x"})
        try:
            early = cri.container(pod, "main", "sleep", "1000")
            cri.start(early)
            with watching(engine, protocol=protocol) as seen:
                assert [c.id for _, c in seen] == [early]
                later = cri.container(pod, "side", "sleep", "1000")
                cri.start(later)
                wait_for(lambda: seen.kinds("side") == ["CREATED"], "created", 10)
                assert pod[0] not in [c.id for _, c in seen]
                container = seen[0][1]
        finally:
            cri.remove(pod)
    assert container.mntns and container.runtime.pid
    expected = {
        "namespace": "shop",
        "podName": f"pod-{protocol}",
        "containerName": "main",
        "podUID": f"uid-pod-{protocol}",
    }
    if protocol == "cri":
        expected["podLabels"] = {"app": "x"}
    assert container.to_json()["k8s"] == expected
    assert container.sandbox_id == pod[0]
    runtime = container.runtime
    assert (runtime.name, runtime.container_name) == ("containerd", "main")
    assert runtime.image_name == NAME
    assert runtime.image_id.startswith("sha256:")
    assert runtime.image_digest.startswith("sha256:")
