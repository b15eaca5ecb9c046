"""``doctor``: engines, sources of containers, and how often they disagree."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_docker import FakeContainer, FakeDocker, container_id, fake_docker

from ig_py import _core
from ig_py.cli import main
from ig_py.containers.discovery import Discovery
from ig_py.containers.report import account, disagreements, statuses
from ig_py.containers.sources import BLIND_SPOTS, DiscoverySource


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeDocker]:
    child = subprocess.Popen(["sleep", "300"])
    with fake_docker(tmp_path) as fake:
        fake.add(FakeContainer(container_id(1), "web", pid=child.pid))
        yield fake
    child.kill()
    child.wait()


def test_the_report_of_doctor(
    engine: FakeDocker, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    flags = ["-r", "docker", f"--docker-socketpath={engine.path}"]
    assert main(["doctor", "-o", "json", *flags]) == 0
    found = json.loads(capsysbinary.readouterr().out)
    assert found["engines"] == [
        {
            "runtime": "docker",
            "socket": str(engine.path),
            "answers": True,
            "containers": 1,
            "error": "",
        }
    ]
    assert found["containers"] == 1
    assert found["toldFirst"]["engine events"] == 1
    sources = {s["source"]: s for s in found["sources"]}
    assert sources.keys() == {s.value for s in DiscoverySource}
    assert sources["engine events"]["active"]
    assert sources["engine events"]["detail"] == "docker"
    assert set(found["disagreements"].values()) == {0}
    assert {f["feature"] for f in found["kernel"]} >= {"ringbuf", "kprobe"}


def test_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-r", "runc"]) == 0
    out = capsys.readouterr().out
    for heading in ("Host", "Kernel", "Engines", "Sources of containers", "Disagreements"):
        assert f"\n{heading}" in f"\n{out}"
    for blind in BLIND_SPOTS.values():
        assert f"cannot see: {blind}" in out
    assert "engine events: not active: no engine answers" in out


def test_why_the_scout_is_not_active(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    def refused(*_: object) -> None:
        _core.probe("time_travel")

    with pytest.raises(_core.CoreError, match="time_travel"):
        refused()
    monkeypatch.setattr(_core, "Scout", refused)
    assert main(["doctor", "-o", "json", "-r", "runc"]) == 0
    found = json.loads(capsysbinary.readouterr().out)
    scout = next(s for s in found["sources"] if s["source"] == DiscoverySource.KERNEL.value)
    assert not scout["active"]
    assert "time_travel" in scout["detail"]


def test_wrong_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-o", "yaml"]) == 1
    assert "not supported" in capsys.readouterr().err


def test_sources_of_a_host_whose_processes_have_other_numbers(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("NSpid:\t7\t1\n")
    from ig_py.host.proc import HostView

    discovery = Discovery([], HostView(str(tmp_path)))
    discovery.start()
    try:
        assert discovery.wait_listed(10)
        found = {s.source: s for s in statuses(discovery, "no permission")}
        assert not any(s.active for s in found.values())
        assert found[DiscoverySource.KERNEL].detail == "no permission"
        assert set(disagreements(discovery).values()) == {0}
        assert account(discovery) == "none; disagreements: none"
    finally:
        discovery.stop()
