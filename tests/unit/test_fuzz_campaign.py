"""``make fuzz`` runs each target, tells its costs, and fails when one finds something."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import campaign
from fuzz.campaign import Job, run_all
from fuzz.cost import Cost
from fuzz.worst import Worst
from support.waiting import wait_for

ROOT = Path(__file__).parents[2]
COST = {"seconds": 0.25, "mib": 3.5, "size": 2048}
COSTS = {"samples": 12_345, "time": COST, "memory": COST, "per_byte": COST}


def job(tmp_path: Path, name: str, body: str) -> Job:
    costs = tmp_path / f"{name}.costs"
    program = f"import os, sys\nwrite = open({str(costs)!r}, 'w').write\n{body}"
    return Job(name, [sys.executable, "-P", "-c", program], costs)


def test_a_table_of_all_targets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = [job(tmp_path, name, f"write({json.dumps(COSTS)!r})") for name in ("a", "b", "c")]
    assert run_all(jobs, 5, 2) == 0
    out = capfd.readouterr().out
    row = r"^[abc] +12,345 +0\.250 +2,048 +3\.5 +2,048 +122\.07 +2,048$"
    assert len(re.findall(row, out, re.MULTILINE)) == 3
    assert "none of 3 targets found anything" in out


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (f"write({json.dumps(COSTS)!r}); print('the sample'); sys.exit(1)", "exit 1"),
        (f"write({json.dumps(COSTS)!r}); sys.stdout.flush(); os.abort()", "exit -6"),
        ("", "told no costs"),
        ("write('{')", "told no costs"),
        (f"write({json.dumps(COSTS | {'samples': 0})!r})", "ran no sample"),
        ("import time; time.sleep(60)", "did not end in 1 s"),
    ],
)
def test_findings(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    why: str,
) -> None:
    if "sleep" in body:
        monkeypatch.setattr(campaign, "GRACE_SECONDS", 0)
    good = job(tmp_path, "good", f"write({json.dumps(COSTS)!r})")
    seconds = 1 if "sleep" in body else 20
    assert run_all([job(tmp_path, "bad", body), good], seconds, 1) == 1
    out = capfd.readouterr().out
    assert why in out
    assert "targets that found something: bad\n" in out
    assert ("the sample" in out) == ("the sample" in body)


def test_a_target_tells_its_costs(tmp_path: Path) -> None:
    costs = tmp_path / "costs"
    run = [sys.executable, "-P", str(ROOT / "tests/fuzz/run.py"), "manifests", "--seconds", "0.5"]
    argv = [*run, "--found", str(tmp_path), "--costs", str(costs)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    worst = Worst.read(costs)
    assert worst.samples > 3
    assert worst.time.seconds > 0
    assert worst.memory.size >= 1


def test_the_core_has_a_job_for_each_target(tmp_path: Path) -> None:
    jobs = list(campaign.core_jobs(1, tmp_path, tmp_path))
    declared = re.findall(r'^name = "(\w+)"$', (ROOT / "core/fuzz/Cargo.toml").read_text(), re.M)
    assert sorted(job.name for job in jobs) == sorted(declared)


def test_bytes_count_in_samples_that_have_some() -> None:
    worst = Worst()
    worst.learn(Cost(0.5, 1.0, 8))
    assert worst.per_byte.seconds == 0
    worst.learn(Cost(0.1, 1.0, 2048))
    assert worst.per_byte.size == 2048
    assert worst.time.size == 8


def test_targets_end_with_the_campaign(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", str(ROOT / "tests/fuzz/campaign.py"), "references", "modules"]
    argv += ["--seconds", "60", "--jobs", "1", "--found", str(tmp_path), "--core", str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:

        def targets() -> list[int]:
            # A thread of its own has started it.
            tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
            return [int(pid) for path in tasks for pid in path.read_text().split()]

        (target,) = wait_for(targets, "a target runs")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    wait_for(lambda: not Path(f"/proc/{target}").exists(), "the target has ended")
    assert not (tmp_path / "modules.log").exists()
