"""Run the layers of tests that this machine can, then say honestly what happened.

``layers.py [lint | LAYER...]``; without names all of them. The last line is
``N passed, N failed, N skipped``: a check of the lint layer counts as one test, and nothing
that was skipped counts as passed. Exit code 0 when nothing failed and something passed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv/bin"
_CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.M)
# Emulation is slow: of the kernel tests, those whose outcome differs between kernels.
_VM_EVERY = (
    "tests/vm/scenario_guest.py",
    "tests/vm/scenario_docker.py",
    "tests/kernel/test_gadget_loads.py",
    "tests/kernel/test_gadget_families.py",
    "tests/kernel/test_root_gadget_events.py",
    "tests/kernel/test_core_object.py",
    "tests/kernel/test_run_refused.py",
    "tests/kernel/test_feature_probes.py",
)
_VM_MORE = (
    "tests/kernel/test_core_families.py",
    "tests/kernel/test_core_stream.py",
    "tests/kernel/test_arrays.py",
    "tests/kernel/test_admission_run.py",
    "tests/kernel/test_follow_containers.py",
    "tests/kernel/test_run_containers.py",
    "tests/kernel/test_run_trace_exec.py",
    "tests/kernel/test_fairness.py",
    "tests/kernel/test_loss_exact.py",
    "tests/kernel/test_user_space_gadgets.py",
    "tests/kernel/test_socket_owners.py",
)
_GUESTS = {
    "vm 6.12 more": ("6.12", _VM_MORE),
    "vm 6.12": ("6.12", _VM_EVERY),
    "vm 6.1": ("6.1", _VM_EVERY),
}
"""Kernel and tests of each by its name; two run at a time, a guest has one virtual CPU. The
longest is first: beside it the other two take as long together."""
_SAME_EVERYWHERE = (
    "tests/kernel/test_gadget_loads.py",
    "tests/kernel/test_header_answers.py",
    "tests/kernel/test_header_sockets.py",
    "tests/kernel/test_attacks_from_containers.py",
    "tests/kernel/test_floods_of_users.py",
    "tests/kernel/test_hostile_engines.py",
    "tests/kernel/test_hostile_files_of_containers.py",
)
"""The layer ``shared`` leaves them out: mounts and containers cannot influence them, or they count
on containers of their own only."""
_LEFT = 3
"""Exit code of tests/shared_machine.py when tests left something on the machine."""
_MINUTE = 60
_NAMED = 5


@dataclass
class Outcome:
    """What one layer did; *failed* and *skipped* map a test to the reason."""

    passed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        self.passed += other.passed
        self.failed |= other.failed
        self.skipped |= other.skipped


def _call(argv: list[str], seconds: int, environment: dict[str, str] | None = None) -> int:
    """Run *argv* with its output passed through; its status, 124 when it took too long."""
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"{argv[0]} did not end within {seconds} s: ending it", flush=True)
        return 124
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            continue


def _check(name: str, argv: list[str], seconds: int) -> Outcome:
    status = _call(argv, seconds)
    return Outcome(passed=1) if status == 0 else Outcome(failed={name: f"exit {status}"})


def _rust_environment() -> dict[str, str]:
    directory = subprocess.run(
        [str(ROOT / "scripts/ensure-rust")], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {
        "PATH": f"{directory}:{os.environ.get('PATH', '')}",
        "PYO3_PYTHON": str(VENV / "python"),
    }


def _lint() -> Outcome:
    outcome = Outcome()
    outcome.add(_check("ruff check", [str(VENV / "ruff"), "check", "."], 2 * _MINUTE))
    outcome.add(_check("ruff format", [str(VENV / "ruff"), "format", "--check", "."], 2 * _MINUTE))
    outcome.add(_check("import layers", [str(VENV / "lint-imports")], 2 * _MINUTE))
    argv = [str(VENV / "python"), "scripts/import_cycles.py"]
    outcome.add(_check("import cycles", argv, _MINUTE))
    outcome.add(_check("mypy --strict", [str(VENV / "mypy")], 10 * _MINUTE))
    argv = [str(VENV / "stubtest"), "ig_py._core", "--allowlist", "scripts/stubtest-allowlist.txt"]
    argv += ["--mypy-config-file", "pyproject.toml"]
    outcome.add(_check("stubtest", argv, 5 * _MINUTE))
    rust = _rust_environment()
    if shutil.which("cargo-clippy", path=rust["PATH"]) is None:
        outcome.skipped["clippy"] = "this Rust has no clippy"
        return outcome
    os.environ.update(rust)
    for crate in ("core", "core/fuzz"):
        argv = ["cargo", "clippy", "--manifest-path", f"{crate}/Cargo.toml", "--locked"]
        argv += ["--all-targets", "--", "-D", "warnings"]
        outcome.add(_check(f"clippy {crate}", argv, 20 * _MINUTE))
    return outcome


def _core() -> Outcome:
    # Without Python: the data plane is plain Rust and needs no libpython to link with.
    outcome = _cargo_test("core", "--no-default-features")
    outcome.add(_cargo_test("core/fuzz", "--lib"))
    return outcome


def _cargo_test(crate: str, option: str) -> Outcome:
    argv = ["cargo", "test", "--manifest-path", f"{crate}/Cargo.toml", "--locked", option]
    try:
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env={**os.environ, **_rust_environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=20 * _MINUTE,
        )
    except subprocess.TimeoutExpired:
        return Outcome(failed={f"cargo test {crate}": "did not end within 20 minutes"})
    print(done.stdout, flush=True)
    results = [[int(n) for n in found] for found in _CARGO_RESULT.findall(done.stdout)]
    outcome = Outcome(passed=sum(r[0] for r in results))
    failed = sum(r[1] for r in results)
    if done.returncode and not failed:
        outcome.failed[f"cargo test {crate}"] = f"exit {done.returncode}"
    names = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. FAILED$", done.stdout, re.M)
    outcome.failed |= {f"{crate} {name}": "failed" for name in names}
    ignored = re.findall(r"^test (\S+) \.\.\. ignored(?:, (.*))?$", done.stdout, re.M)
    outcome.skipped |= {f"{crate} {name}": why or "ignored" for name, why in ignored}
    return outcome


def _report(path: Path, what: str, status: int) -> Outcome:
    if not path.exists():
        return Outcome(failed={what: f"exit {status} without a report"})
    try:
        counts = json.loads(path.read_text())
    except ValueError:
        return Outcome(failed={what: f"exit {status} with a report that is cut"})
    outcome = Outcome(counts["passed"], counts["failed"], counts["skipped"])
    if status and not outcome.failed:
        outcome.failed[what] = f"exit {status}"
    if not outcome.passed and not outcome.failed and not outcome.skipped:
        outcome.failed[what] = "no test ran"
    return outcome


def _pytest(folder: str, minutes: int) -> Callable[[], Outcome]:
    def run() -> Outcome:
        if not any((ROOT / "tests" / folder).rglob("test_*.py")):
            return Outcome(failed={f"tests/{folder}": "there are no tests"})
        with tempfile.TemporaryDirectory(prefix="ig-py-test-") as directory:
            report = Path(directory) / "report.json"
            environment = {"IG_PY_TEST_REPORT": str(report)}
            argv = [str(VENV / "pytest"), "-q", f"tests/{folder}"]
            status = _call(argv, minutes * _MINUTE, environment)
            return _report(report, f"tests/{folder}", status)

    return run


def _shared() -> Outcome:
    """The kernel and interop layers again, on a machine that others use, too."""
    if os.geteuid() != 0:
        return Outcome(skipped={"tests/shared_machine.py": "not running as root"})
    with tempfile.TemporaryDirectory(prefix="ig-py-test-") as directory:
        report = Path(directory) / "report.json"
        ignored = [f"--ignore={path}" for path in _SAME_EVERYWHERE]
        argv = [str(VENV / "python"), "tests/shared_machine.py", "-q", *ignored]
        status = _call(
            [*argv, "tests/kernel", "tests/interop"],
            25 * _MINUTE,
            {"IG_PY_TEST_REPORT": str(report)},
        )
        found = _report(report, "tests/shared_machine.py", status)
        if status == _LEFT:
            found.failed["tests/shared_machine.py"] = "the tests left something, see LEFT above"
    return Outcome(
        found.passed,
        {f"shared {test}": why for test, why in found.failed.items()},
        {f"shared {test}": why for test, why in found.skipped.items()},
    )


def _guest(name: str) -> Outcome:
    kernel, tests = _GUESTS[name]
    with tempfile.TemporaryDirectory(prefix="ig-py-test-") as directory:
        report = Path(directory) / "report.json"
        argv = [str(VENV / "python"), "tests/vm/run.py", "--kernel", kernel]
        argv += ["--report", str(report), *tests]
        status = _call(argv, 45 * _MINUTE)
        return _report(report, name, status)


def _vm() -> Outcome:
    outcome = Outcome()
    with ThreadPoolExecutor(max_workers=2) as pool:
        for name, found in zip(_GUESTS, pool.map(_guest, _GUESTS), strict=True):
            outcome.passed += found.passed
            outcome.failed |= {f"{name} {test}": why for test, why in found.failed.items()}
            outcome.skipped |= {f"{name} {test}": why for test, why in found.skipped.items()}
    return outcome


LAYERS: dict[str, Callable[[], Outcome]] = {
    "lint": _lint,
    "core": _core,
    "unit": _pytest("unit", 10),
    "wire": _pytest("wire", 10),
    "kernel": _pytest("kernel", 25),
    "interop": _pytest("interop", 15),
    "shared": _shared,
    "vm": _vm,
}


def _by_file(tests: list[str]) -> list[str]:
    """A line for each test; a count for a file with more than _NAMED of *tests*."""
    files: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        files[test.partition("::")[0]].append(test)
    lines = []
    for file, found in files.items():
        lines += found if len(found) <= _NAMED else [f"{file}: {len(found)} tests"]
    return lines


def _summary(outcomes: dict[str, tuple[Outcome, float]]) -> Outcome:
    total = Outcome()
    print("\n== what ran ==")
    for name, (outcome, seconds) in outcomes.items():
        total.add(outcome)
        counts = f"{outcome.passed} passed, {len(outcome.failed)} failed"
        print(f"{name:8} {counts}, {len(outcome.skipped)} skipped  ({seconds:.0f} s)")
    if total.skipped:
        print("\n== what could not run here ==")
        reasons: dict[str, list[str]] = defaultdict(list)
        for test, why in total.skipped.items():
            reasons[why].append(test)
        for why, tests in reasons.items():
            print(f"{why}:")
            for line in _by_file(tests):
                print(f"  {line}")
    # Last, because a log is often cut at its beginning.
    if total.failed:
        print("\n== what failed ==")
        for test, why in total.failed.items():
            print(f"{test}: {why}")
    print()
    print(f"{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped")
    return total


def main(names: list[str]) -> int:
    unknown = set(names) - LAYERS.keys()
    if unknown:
        print(f"no such layer: {', '.join(sorted(unknown))}; there are {', '.join(LAYERS)}")
        return 2
    outcomes = {}
    for name, run in LAYERS.items():
        if names and name not in names:
            continue
        print(f"\n== {name} ==", flush=True)
        started = time.monotonic()
        outcomes[name] = (run(), time.monotonic() - started)
    total = _summary(outcomes)
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    # SIGTERM unwinds like Ctrl-C, so that the layer that runs is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
