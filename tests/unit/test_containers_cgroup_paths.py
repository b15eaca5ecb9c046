"""Paths of control groups as the host knows them, told in a namespace of our own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ig_py.host import cgroup_paths
from ig_py.host.cgroup_paths import INITIAL, CgroupPaths
from ig_py.host.proc import HostView


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Both versions; we are in ``/docker/us/sub``, and our namespace begins at ``/docker/us``."""
    hierarchies = tmp_path / "sys/fs/cgroup"
    for mount in ("unified", "systemd", "cpu,cpuacct"):
        for group in ("docker/us/sub", "docker/them", "init.scope"):
            (hierarchies / mount / group).mkdir(parents=True)
            (hierarchies / mount / group / "cgroup.procs").write_text("1\n0\n")
        ours = hierarchies / mount / "docker/us/sub/cgroup.procs"
        ours.write_text(f"1\n{os.getpid()}\n")
    (hierarchies / "unified/cgroup.controllers").touch()
    own = tmp_path / "own"
    (own / "ns").mkdir(parents=True)
    (own / "ns/cgroup").touch()
    lines = ["3:cpu,cpuacct:/sub", "1:name=systemd:/sub", "0::/sub"]
    (own / "cgroup").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def paths(host: Path) -> CgroupPaths:
    return CgroupPaths(str(host / "sys/fs/cgroup"), str(host / "own"))


@pytest.mark.parametrize(
    ("told", "absolute"),
    [
        ("0::/", "0::/docker/us"),
        ("0::/sub", "0::/docker/us/sub"),
        ("0::/../them", "0::/docker/them"),
        ("0::/../../init.scope", "0::/init.scope"),
        ("0::/../..", "0::/"),
        ("0::/../../../..", "0::/"),
        ("1:name=systemd:/../them", "1:name=systemd:/docker/them"),
        ("3:cpu,cpuacct:/../them", "3:cpu,cpuacct:/docker/them"),
        # An unknown hierarchy.
        ("9:misc:/../them", "9:misc:/them"),
        ("nonsense", "nonsense"),
        ("0::", "0::"),
        ("", ""),
    ],
)
def test_told_from_within(host: Path, told: str, absolute: str) -> None:
    assert paths(host).absolute(told) == absolute


def test_the_hosts_own_namespace(monkeypatch: pytest.MonkeyPatch, host: Path) -> None:
    number = (host / "own/ns/cgroup").stat().st_ino
    monkeypatch.setattr(cgroup_paths, "INITIAL", number)
    assert paths(host).absolute("0::/x") == "0::/x"
    assert INITIAL == 0xEFFFFFFB


def test_looking_ends(monkeypatch: pytest.MonkeyPatch, host: Path) -> None:
    monkeypatch.setattr(cgroup_paths, "MAX_DIRECTORIES", 2)
    assert paths(host).absolute("0::/../them") == "0::/them"


def test_without_hierarchies(tmp_path: Path) -> None:
    found = CgroupPaths(str(tmp_path), str(tmp_path))
    assert found.absolute("0::/../them") == "0::/../them"
    assert found.unified == ""


def test_in_the_view_of_the_host(monkeypatch: pytest.MonkeyPatch, host: Path) -> None:
    (host / "proc/7").mkdir(parents=True)
    (host / "proc/7/cgroup").write_text("1:name=systemd:/../them\n0::/../them\n")
    view = HostView(str(host))
    monkeypatch.setattr(view, "_cgroup_paths", paths(host))
    found = view.cgroups(7)
    assert (found.v1, found.v2) == ("/docker/them", "/docker/them")
    assert found.raw.splitlines() == ["1:name=systemd:/docker/them", "0::/docker/them"]
    assert view.cgroup2_mount() == str(host / "sys/fs/cgroup/unified")
