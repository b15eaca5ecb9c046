"""Where engines say that runtimes keep the state of their containers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_containerd import FakeContainer as OfContainerd
from support.fake_containerd import FakeContainerd
from support.fake_cri import FakeCri
from support.fake_docker import FakeContainer, container_id, fake_docker
from support.fake_proc import FakeHost
from support.waiting import wait_for

from ig_py.containers.discovery import Discovery
from ig_py.containers.engines import state_roots
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.engine import MAX_STATE_ROOTS
from ig_py.containers.engines.protos import containerd_pb2 as pb
from ig_py.containers.engines.protos import cri_pb2
from ig_py.containers.speakers import ROOT_ENGINE, Claim, Rank, Speaker

ADDRESS = {"Containerd": {"Address": "/x/exec/containerd/containerd.sock"}}
SANDBOX = {"NetworkSettings": {"SandboxKey": "/x/exec/netns/0a1b"}}
ODD: tuple[Any, ...] = (None, [], "x", 7, {"Runtimes": []}, {"Runtimes": {"a": 1, "b": None}})


@pytest.mark.parametrize(
    ("info", "inspected", "roots"),
    [
        (ADDRESS, None, ["/x/exec/runtime-runc/*"]),
        ({}, SANDBOX, ["/x/exec/runtime-runc/*"]),
        ({"Containerd": {"Address": "/run/containerd/containerd.sock"}}, {}, []),
        ({"Containerd": {"Address": 7}}, {"NetworkSettings": {"SandboxKey": ""}}, []),
        ({}, {"NetworkSettings": {"SandboxKey": "/elsewhere/0a1b"}}, []),
        ({"Runtimes": {"runc": {"path": "runc"}}}, None, []),
        ({"Runtimes": {"mine": {"options": {"Root": "/x/mine"}}}}, None, ["/x/mine/*"]),
        *((odd, odd, []) for odd in ODD),
    ],
)
def test_what_docker_tells(info: Any, inspected: Any, roots: list[str]) -> None:
    assert list(state_roots.of_docker(info, inspected)) == roots


def runc_options(root: str) -> bytes:
    return pb.RuncOptions(root=root).SerializeToString()


@pytest.mark.parametrize(
    ("kind", "value", "root"),
    [
        ("containerd.runc.v1.Options", runc_options("/x/r"), "/x/r/*"),
        ("types.containerd.io/containerd.runc.v1.Options", runc_options("/x/r"), "/x/r/*"),
        ("containerd.runc.v1.Options", b"", ""),
        ("containerd.runc.v1.Options", b"\xff\xff", ""),
        ("runtimeoptions.v1.Options", runc_options("/x/r"), ""),
        ("", b"", ""),
    ],
)
def test_what_a_container_of_containerds_tells(kind: str, value: bytes, root: str) -> None:
    message = pb.Container(id="a")
    message.runtime.options.type_url = kind
    message.runtime.options.value = value
    assert state_roots.of_containerd(message) == root


def test_what_containerds_configuration_tells() -> None:
    runtimes = {"runc": {"options": {"Root": "/x/r"}}, "two": {"options": {"Root": ""}}, "odd": 3}
    config = json.dumps({"containerd": {"runtimes": runtimes}})
    assert list(state_roots.of_containerd_config({"config": config})) == ["/x/r/*"]
    for odd in ("", "{", "[]", '{"containerd": []}', "[" * 5000):
        assert list(state_roots.of_containerd_config({"config": odd})) == []


CRIO = """
[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
runtime_type = "oci"
runtime_root = "/x/crun"
[crio.runtime.runtimes.fast]
runtime_root = "/x/fast"
[crio.runtime.runtimes.kata]
runtime_type = "vm"
runtime_root = "/x/kata"
[crio.runtime.runtimes.none]
runtime_path = "/usr/bin/runc"
"""


def test_what_crios_configuration_tells() -> None:
    found = list(state_roots.of_crio_config(CRIO.encode()))
    assert found == [("/x/crun", "crun"), ("/x/fast", "runc")]
    for odd in (b"", b"\xff", b"x = ", b"crio = 3", b"[crio.runtime]\nruntimes = [1]"):
        assert list(state_roots.of_crio_config(odd)) == []


@pytest.mark.parametrize(
    ("engine", "words", "found"),
    [
        ("docker", ("dockerd", "--exec-root", "/x/e"), [("/x/e/runtime-runc/*", "docker")]),
        ("docker", ("/a/dockerd", "--exec-root=/x/e"), [("/x/e/runtime-runc/*", "docker")]),
        ("docker", ("dockerd",), [("/x/file/runtime-runc/*", "docker")]),
        ("docker", ("/sbin/init",), [("/x/file/runtime-runc/*", "docker")]),
        ("docker", ("dockerd", "--config-file=/etc/other.json"), []),
        ("podman", ("podman", "--runtime-flag", "root=/x/p"), [("/x/p", "crun")]),
        ("podman", ("podman", "--runtime=/a/runc", "--runtime-flag=root=/p"), [("/p", "runc")]),
        ("podman", ("podman", "--runtime-flag", "systemd-cgroup"), []),
        ("podman", ("/sbin/init", "--runtime-flag", "root=/x/p"), []),
        ("containerd", ("containerd", "--root", "/x"), []),
    ],
)
def test_what_an_engines_command_line_tells(
    tmp_path: Path, engine: str, words: tuple[str, ...], found: list[tuple[str, str]]
) -> None:
    host = FakeHost(tmp_path)
    host.write("etc/docker/daemon.json", '{"exec-root": "/x/file"}')
    host.write("etc/other.json", "{")
    host.process(50, words=words)
    assert list(state_roots.of_process(host.view, engine, 50)) == found


@pytest.mark.needs("root")
def test_a_users_process_or_file_names_no_root(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.process(50, words=("dockerd", "--exec-root", "/x"), user=1001)
    host.process(51, words=("dockerd",))
    host.write("etc/docker/daemon.json", '{"exec-root": "/x/file"}')
    os.chown(tmp_path / "etc/docker/daemon.json", 1001, 1001)
    assert list(state_roots.of_process(host.view, "docker", 50)) == []
    assert list(state_roots.of_process(host.view, "docker", 51)) == []


class Told:
    """A discovery of one engine; what it is told of roots."""

    def __init__(self, config: EngineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.roots: list[tuple[str, str, int]] = []
        self.discovery = Discovery([config])
        roots = self.discovery._state_roots
        monkeypatch.setattr(roots, "told", lambda *given: self.roots.append(given))

    def until(self, *expected: tuple[str, str]) -> None:
        self.discovery.start()
        try:
            wait_for(lambda: len(self.roots) >= len(expected), f"{expected}", 10, 0.01)
        finally:
            self.discovery.stop()
        assert self.roots == [(root, runtime, os.getpid()) for root, runtime in expected]


def test_docker_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_docker(tmp_path) as engine:
        here = FakeContainer(container_id(1), "web", pid=os.getpid())
        engine.add(here)
        engine.override["/info"] = lambda: json.dumps(
            {"Runtimes": {"a": {"options": {"Root": "/x/a"}}}}
        ).encode()
        path = f"/containers/{here.id}/json"
        engine.override[path] = lambda: json.dumps({**here.inspected(), **SANDBOX}).encode()
        told = Told(EngineConfig("docker", str(engine.path)), monkeypatch)
        told.until(("/x/exec/runtime-runc/*", "docker"), ("/x/a/*", "docker"))


@pytest.mark.parametrize("answer", [b"{", b"null", b"[]", b'{"Runtimes": {"x": []}}'])
def test_an_odd_answer_of_dockers_ends_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    with fake_docker(tmp_path) as engine:
        engine.override["/info"] = lambda: answer
        told = Told(EngineConfig("docker", str(engine.path)), monkeypatch)
        told.discovery.start()
        try:
            assert told.discovery.wait_listed(10)
            wait_for(lambda: any("/info" in seen for seen in engine.requests), "asked", 10, 0.01)
            one = FakeContainer(container_id(2), "later", pid=os.getpid())
            engine.begin(one)
            wait_for(lambda: len(told.discovery.collection) == 1, "its events", 10, 0.01)
        finally:
            told.discovery.stop()
        assert told.roots == []


def test_containerd_tells_with_the_container_before_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithRoot(OfContainerd):
        def message(self) -> pb.Container:
            message = super().message()
            message.runtime.options.type_url = state_roots.RUNC_OPTIONS
            message.runtime.options.value = runc_options("/x/r")
            return message

    engine = FakeContainerd(tmp_path / "c.sock")
    engine.start()
    told = Told(EngineConfig("containerd", str(engine.path)), monkeypatch)
    told.discovery.start()
    try:
        assert told.discovery.wait_listed(10)
        wait_for(lambda: engine.subscribers(), "subscribed", 10, 0.01)
        for name in ("1a", "2b"):
            container = WithRoot(name * 32)
            engine.add(container)
            engine.event("/containers/create", "default", id=container.id)
        wait_for(lambda: told.roots, "told", 10, 0.01)
    finally:
        told.discovery.stop()
        engine.stop()
    assert told.roots == [("/x/r/*", "containerd", os.getpid())], "once for each root"


def test_a_cri_engine_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeCri(tmp_path / "c.sock")
    config = json.dumps({"containerd": {"runtimes": {"runc": {"options": {"Root": "/x/r"}}}}})
    engine.override["Status"] = lambda: cri_pb2.StatusResponse(
        info={"config": config}
    ).SerializeToString()
    engine.start()
    try:
        config_of = EngineConfig("containerd", str(engine.path), protocol="cri")
        Told(config_of, monkeypatch).until(("/x/r/*", "containerd"))
    finally:
        engine.stop()


def test_crio_is_asked_for_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC and HTTP share CRI-O's socket; here each has a socket of its own."""
    from ig_py.containers.engines import docker_http

    engine = FakeCri(tmp_path / "c.sock")
    engine.override["Version"] = lambda: cri_pb2.Version(
        runtime_name="cri-o", runtime_version="1.30"
    ).SerializeToString()
    (tmp_path / "http").mkdir()
    with fake_docker(tmp_path / "http") as http:
        http.override["/config"] = CRIO.encode
        of: Callable[..., Any] = docker_http.DockerTransport
        here = str(http.path)
        monkeypatch.setattr(docker_http, "DockerTransport", lambda _, name: of(here, name))
        engine.start()
        try:
            told = Told(EngineConfig("cri-o", str(engine.path), protocol="cri"), monkeypatch)
            told.until(("/x/crun", "crun"), ("/x/fast", "runc"))
        finally:
            engine.stop()


def test_a_users_engine_names_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(EngineConfig("docker", "/none"), monkeypatch)
    discovery = told.discovery
    by = Claim(Speaker(1001), Rank.USER_ENGINE)
    discovery.reactor.start()
    try:
        discovery.state_root("/x/user", "podman", os.getpid(), by)
        discovery.serving("podman", os.getpid(), by)
        discovery.state_root("/x/root", "podman", os.getpid(), ROOT_ENGINE)
        wait_for(lambda: told.roots, "told", 10, 0.01)
    finally:
        discovery.stop()
    assert told.roots == [("/x/root", "podman", os.getpid())]


def test_the_roots_of_one_engine_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(EngineConfig("docker", "/none"), monkeypatch)
    (client,) = told.discovery.engines.clients
    heard: list[str] = []
    monkeypatch.setattr(client._sink, "state_root", lambda root, *_: heard.append(root))
    for number in range(MAX_STATE_ROOTS + 9):
        client.report_state_root(f"/x/{number}", "docker")
    assert len(heard) == MAX_STATE_ROOTS
