"""Run every fuzz target, several at a time: ``campaign.py --seconds N --found DIR --core DIR``.

Each target is a process of its own, whose output is kept in ``--found``. At the end there is one
table of the worst costs (:mod:`fuzz.worst`) and a list of the targets that found something; exit
code 1 when there is one.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from fuzz.targets import TARGETS  # noqa: E402
from fuzz.worst import HEADING, Worst  # noqa: E402

CORE = Path(__file__).parents[2] / "core/fuzz"
MAX_MEMORY_MIB = 1024
MAX_ALLOCATION_MIB = 256
MAX_CLOCK_SECONDS = 120
"""For one sample of the core, which cannot be interrupted by its processor time. A machine that is
busy with other work is no finding."""
GRACE_SECONDS = 300
"""What a target may take beyond its time, by the clock, before it is ended: its last sample."""
MAX_BYTES = {"arrays": 1 << 18, "decode": 1 << 18, "render": 1 << 18, "netlink": 1 << 16}
"""Largest sample: four events of the largest size, a buffer of the kernel's replies."""
MAX_BYTES_OF_A_FILE = 1 << 20
_LAST_LINES = 40

_started: set[subprocess.Popen[bytes]] = set()
"""Processes of targets that are under way."""
_starting = threading.Lock()
"""Held by the thread that starts one, until it is in :data:`_started`."""


@dataclass(frozen=True)
class Job:
    """A target; *argv* writes its worst costs to *costs*."""

    name: str
    argv: list[str]
    costs: Path


@dataclass(frozen=True)
class Result:
    """*why* the target is a finding; empty when it is none."""

    name: str
    why: str
    worst: Worst


def python_jobs(seconds: int, found: Path) -> Iterator[Job]:
    """The targets of :mod:`fuzz.targets`."""
    for name in TARGETS:
        costs = found / f"{name}.costs"
        run = str(Path(__file__).with_name("run.py"))
        argv = [sys.executable, run, name, "--seconds", str(seconds)]
        yield Job(name, [*argv, "--found", str(found), "--costs", str(costs)], costs)


def core_jobs(seconds: int, found: Path, binaries: Path) -> Iterator[Job]:
    """The targets of ``core/fuzz``, built into *binaries*, with libFuzzer's own limits."""
    for source in sorted((CORE / "fuzz_targets").glob("*.rs")):
        name = source.stem
        own = CORE / f"seeds-{name}"
        corpus = CORE / "corpus" / name
        argv = [
            str(binaries / name),
            f"-max_total_time={seconds}",
            f"-max_len={MAX_BYTES.get(name, MAX_BYTES_OF_A_FILE)}",
            f"-rss_limit_mb={MAX_MEMORY_MIB}",
            f"-malloc_limit_mb={MAX_ALLOCATION_MIB}",
            f"-timeout={MAX_CLOCK_SECONDS}",
            f"-artifact_prefix={found}/{name}-",
            "-verbosity=0",
            # New samples go to the first directory; the seeds stay unchanged.
            str(corpus),
            str(own if own.is_dir() else CORE / "seeds"),
        ]
        yield Job(name, argv, found / f"{name}.costs")


def run(job: Job, seconds: int) -> Result:
    """One target, to its end."""
    job.costs.unlink(missing_ok=True)
    log = job.costs.with_suffix(".log")
    with log.open("wb") as output:
        with _starting:
            process = subprocess.Popen(
                job.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"FUZZ_COSTS": str(job.costs)},
            )
            _started.add(process)
        try:
            status = process.wait(seconds + GRACE_SECONDS)
            why = f"exit {status}" if status else ""
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            why = f"did not end in {seconds + GRACE_SECONDS} s"
        finally:
            _started.discard(process)
    try:
        worst = Worst.read(job.costs)
    except (OSError, ValueError, KeyError, TypeError) as err:
        return Result(job.name, why or f"told no costs: {err}", Worst())
    if not worst.samples:
        why = why or "ran no sample"
    if why:
        lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        print("\n".join([f"--- {job.name}: {why}; the end of {log}:", *lines]), flush=True)
    return Result(job.name, why, worst)


def run_all(jobs: list[Job], seconds: int, workers: int) -> int:
    """Every job, *workers* at a time; prints the table and returns the exit code."""
    results: list[Result] = []
    began = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        for result in pool.map(lambda job: run(job, seconds), jobs):
            results.append(result)
            said = f"FOUND SOMETHING: {result.why}" if result.why else "nothing found"
            minutes = (time.monotonic() - began) / 60
            print(f"{minutes:5.1f} min  {result.name}: {said}", flush=True)
    rows = [result.worst.row(result.name) for result in results]
    print("\n".join([HEADING, *rows]))
    found = [result.name for result in results if result.why]
    if found:
        print(f"targets that found something: {', '.join(found)}", flush=True)
    else:
        print(f"none of {len(results)} targets found anything", flush=True)
    return int(bool(found) or not results)


def _end(number: int, _frame: object) -> None:
    """End with the targets that run: the pool would wait for them, and start those that wait."""
    # Never given back: no other target starts. This thread holds it nowhere else.
    _starting.acquire()
    for process in list(_started):
        process.kill()
    os._exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", help="names of targets (default: all)")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--found", type=Path, required=True)
    parser.add_argument("--core", type=Path, required=True, help="directory of the built targets")
    given = parser.parse_args()
    found = given.found.resolve()
    found.mkdir(parents=True, exist_ok=True)
    jobs = [*python_jobs(given.seconds, found), *core_jobs(given.seconds, found, given.core)]
    if unknown := set(given.targets) - {job.name for job in jobs}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    chosen = [job for job in jobs if not given.targets or job.name in given.targets]
    for job in chosen:
        (CORE / "corpus" / job.name).mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    return run_all(chosen, given.seconds, max(1, given.jobs))


if __name__ == "__main__":
    sys.exit(main())
