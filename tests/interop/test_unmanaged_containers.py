"""Containers that no engine knows: started with runc or crun, or by podman without its service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import features
from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime
from support.tracer import children
from support.waiting import wait_for

from ig_py.containers.collection import Event
from ig_py.containers.discovery import Discovery
from ig_py.containers.model import Container

pytestmark = pytest.mark.needs("root", "busybox", "runc")


class Seen(list[tuple[str, Container]]):
    def on(self, event: Event) -> None:
        self.append((event.type.value, event.container))

    def kinds(self, name: str) -> list[str]:
        return [kind for kind, c in self if c.id == name and kind != "EXPIRED"]


@contextmanager
def watching() -> Iterator[Seen]:
    discovery = Discovery([], unmanaged=True, oci_configs=True)
    seen = Seen()
    discovery.collection.subscribe(seen.on, seen.on)
    discovery.start()
    try:
        assert discovery.wait_listed(30)
        yield seen
    finally:
        discovery.stop()


@pytest.mark.parametrize("program", ["runc", "crun"])
def test_a_runtime_by_hand(program: str, tmp_path: Path) -> None:
    features.need(program)
    runtime, bundle = Runtime(program), make_bundle(tmp_path, "sleep", "1000")
    early, later = f"ig-py-early-{program}", f"ig-py-later-{program}"
    try:
        runtime.run(early, bundle)
        with watching() as seen:
            (container,) = [c for _, c in seen if c.id == early]
            runtime.run(later, bundle)
            wait_for(lambda: "CREATED" in seen.kinds(later), "created", 10, 0.01)
            (pid,) = {c.runtime.pid for kind, c in seen if c.id == later and kind == "CREATED"}
            subprocess.run(["kill", "-9", str(pid)], check=True)
            wait_for(lambda: "DELETED" in seen.kinds(later), "deleted", 5, 0.01)
            assert seen.kinds(later) == ["PRECREATE", "CREATED", "DELETED"]
            (announced,) = [c for kind, c in seen if c.id == later and kind == "PRECREATE"]
    finally:
        for name in (early, later):
            runtime.remove(name)
    assert (container.runtime.name, container.runtime.container_name) == (program, early)
    assert container.mntns and container.netns and container.runtime.started_at
    assert json.loads(container.oci_config)["process"]["args"] == ["sleep", "1000"]
    assert announced.bundle == str(bundle)
    assert announced.to_json().keys() == {"runtime", "k8s", "ociConfig", "bundle"}


def test_a_pods_containers_by_their_annotations(tmp_path: Path) -> None:
    notes = {"io.kubernetes.cri.container-type": "container"}
    notes |= {f"io.kubernetes.cri.{k}": v for k, v in (("sandbox-name", "p"), ("sandbox-id", "s"))}
    container, pause = tmp_path / "container", tmp_path / "pause"
    for directory, kind in ((container, "container"), (pause, "sandbox")):
        directory.mkdir()
        kinds = {**notes, "io.kubernetes.cri.container-type": kind}
        make_bundle(directory, "sleep", "1000", annotations=kinds)
    runtime = Runtime("runc")
    try:
        runtime.run("ig-py-pause", pause)
        runtime.run("ig-py-main", container)
        with watching() as seen:
            found = {c.id: c for _, c in seen}
    finally:
        for name in ("ig-py-pause", "ig-py-main"):
            runtime.remove(name)
    assert "ig-py-pause" not in found
    assert found["ig-py-main"].k8s.pod_name == "p"
    assert found["ig-py-main"].sandbox_id == "s"
    assert found["ig-py-main"].runtime.name == "containerd"


def test_containers_of_a_runtime_with_another_root(tmp_path: Path) -> None:
    """Then the processes themselves tell."""
    with tempfile.TemporaryDirectory(prefix="ig") as root:
        runtime, bundle = Runtime("runc", root), make_bundle(tmp_path, "sleep", "1000")
        try:
            runtime.run("ig-py-hidden", bundle)
            with watching() as seen:
                found = [c for _, c in seen if c.id == "ig-py-hidden"]
        finally:
            runtime.remove("ig-py-hidden")
    assert [c.runtime.name for c in found] == ["unknown"]
    assert found[0].mntns


def test_namespaces_without_a_container_runtime_are_no_containers() -> None:
    own = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "sleep", "1000"])
    try:
        [init] = wait_for(lambda: children(own.pid), "the first process of the namespace", 10)
        with watching() as seen:
            found = [c for _, c in seen if c.runtime.pid in (own.pid, init)]
        assert not found
    finally:
        for pid in (*children(own.pid), own.pid):
            os.kill(pid, signal.SIGKILL)
        own.wait()
