"""Containers that come and go, as fast as this machine can or at a set rate: does the tracer stay
as it is, and what does it cost them?

    .venv/bin/python bench/churn.py --runtime runc --minutes 10
    .venv/bin/python bench/churn.py --runtime runc --minutes 10 --rate 20 --rounds 0

First one tracer for so many minutes: its descriptors, threads and memory over time, how much its
memory grows with each container, and whether each container was seen and named. The containers are
real: the runtime, a root of busybox, one command. Then slices of some seconds, with a tracer and
without in turn: how long one container takes from the call to its end. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from slope import NoSlope, slope  # noqa: E402
from support.first_exec import Tracer  # noqa: E402
from support.root_gadget import image_tar  # noqa: E402
from support.running_gadget import IG_PY  # noqa: E402
from support.short_containers import RUNTIMES, Starter, why_not  # noqa: E402
from usage import memory  # noqa: E402

SAMPLE_SECONDS = 1.0
SETTLE_SECONDS = 15
"""For the last events, and until ended containers are no longer kept."""

_serial = itertools.count()


@dataclass
class Sample:
    seconds: float
    started: int
    descriptors: int
    threads: int
    rss_kib: int
    anonymous_kib: int


@dataclass
class Load:
    """Containers one after another, in several threads, until told to stop; *rate* a second, or
    0: as fast as they start. One that is late is started at once."""

    start: Callable[[str], None]
    parallel: int
    rate: float = 0
    names: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        turns = itertools.count()
        since = time.monotonic()
        with ThreadPoolExecutor(self.parallel) as pool:
            workers = [pool.submit(self._work, stop, turns, since) for _ in range(self.parallel)]
            try:
                yield
            finally:
                stop.set()
        for worker in workers:
            worker.result()

    def _work(self, stop: threading.Event, turns: Iterator[int], since: float) -> None:
        while not stop.is_set():
            due = since + next(turns) / self.rate if self.rate else 0
            if stop.wait(max(0, due - time.monotonic())):
                return
            name = f"churn-{next(_serial)}"
            begun = time.monotonic()
            try:
                self.start(name)
            except (OSError, subprocess.SubprocessError) as error:
                self.failures.append(f"{name}: {error}")
                continue
            self.seconds.append(time.monotonic() - begun)
            self.names.append(name)


class Sampled(Tracer):
    def sample(self, begun: float, started: int) -> Sample:
        base = Path(f"/proc/{self.process.pid}")
        size = memory(self.process.pid)
        return Sample(
            time.monotonic() - begun,
            started,
            len(list((base / "fd").iterdir())),
            len(list((base / "task").iterdir())),
            size.rss,
            size.anonymous,
        )

    def told(self) -> dict[str, str]:
        """Name that a container printed → name that the event has."""
        printed = ((words.rpartition(" ")[2], name) for words, name in self.seen())
        return {argument: name for argument, name in printed if argument.startswith("churn-")}


def soak(argv: list[str], starter: Starter, given: argparse.Namespace) -> None:
    """*given*: of the command line."""
    minutes, messages = given.minutes, given.messages
    with tempfile.TemporaryDirectory() as path:
        load = Load(starter.start, given.parallel, given.rate)
        with Sampled(argv, Path(path)) as traced:
            begun = time.monotonic()
            samples = [traced.sample(begun, 0)]
            with load.running():
                while time.monotonic() - begun < minutes * 60:
                    time.sleep(SAMPLE_SECONDS)
                    samples.append(traced.sample(begun, len(load.names)))
            time.sleep(SETTLE_SECONDS)
            samples.append(traced.sample(begun, len(load.names)))
            status = traced.stop()
        told = traced.told()
        _print_samples(samples)
        print("\n".join(growth(samples[:-1], given.warm_up)))
        right = sum(told.get(name) == name for name in load.names)
        print(
            f"{len(load.names)} containers, {len(load.names) / minutes / 60:.1f}/s,"
            f" {len(load.failures)} failed to start; named right {right},"
            f" missed {sum(name not in told for name in load.names)}, exit status {status}"
        )
        for name in load.names:
            if told.get(name) != name:
                print(f"  {name}: {told.get(name, 'missed')!r}")
        if messages is not None:
            messages.write_text(traced.messages)
        lines = traced.messages.splitlines()
        print("\n".join(x for x in lines if "level=debug" not in x or 'msg="containers: ' in x))
        print("\n".join(load.failures[:3]))


def _print_samples(samples: list[Sample]) -> None:
    print(
        f"{'s':>6} {'started':>8} {'descriptors':>12} {'threads':>8} {'RSS KiB':>9}"
        f" {'RssAnon KiB':>12}"
    )
    step = max(1, len(samples) // 20)
    for sample in [*samples[:-1:step], samples[-1]]:
        print(
            f"{sample.seconds:6.0f} {sample.started:8} {sample.descriptors:12}"
            f" {sample.threads:8} {sample.rss_kib:9} {sample.anonymous_kib:12}"
        )


def growth(samples: list[Sample], warm_up: float) -> list[str]:
    """What memory grew by after *warm_up* seconds, a line for each kind of it."""
    kept = [sample for sample in samples if sample.seconds >= warm_up]
    started = [sample.started for sample in kept]
    kinds = {
        "VmRSS": [sample.rss_kib * 1024 for sample in kept],
        "RssAnon": [sample.anonymous_kib * 1024 for sample in kept],
    }
    lines = []
    for kind, size in kinds.items():
        try:
            found = slope(started, size)
        except NoSlope as error:
            return [f"no slope: {error}"]
        rate = (started[-1] - started[0]) / (kept[-1].seconds - kept[0].seconds)
        lines.append(
            f"{kind}: {found.bytes_each:.1f} ± {found.error:.1f} bytes a container,"
            f" {found.mib_a_day(rate):.1f} MiB in 24 h at {rate:.1f}/s"
            f" ({len(kept)} samples, {started[-1] - started[0]} containers)"
        )
    return lines


def latency(
    argv: list[str], starter: Starter, parallel: int, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds that containers took, with a tracer and without, in turn."""
    found: dict[str, list[float]] = {"without": [], "with": []}
    for number in range(2 * rounds):
        # The order alternates: a machine that becomes slower or faster affects both alike.
        traced = number % 4 in (1, 2)
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(tempfile.TemporaryDirectory())
            run = stack.enter_context(Sampled(argv, Path(path))) if traced else None
            load = Load(starter.start, parallel)
            with load.running():
                time.sleep(seconds)
            if run is not None:
                run.stop()
        found["with" if traced else "without"] += load.seconds
    return found


def _print_latency(found: dict[str, list[float]]) -> None:
    for name, seconds in found.items():
        ordered = sorted(seconds)
        late = ordered[int(len(ordered) * 0.99)]
        print(
            f"{name:8} {len(ordered):6} containers: median {statistics.median(ordered) * 1e3:.1f}"
            f" ms, 99th percentile {late * 1e3:.1f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=list(RUNTIMES), default="runc")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0, help="starts a second; 0: all it can")
    parser.add_argument("--warm-up", type=float, default=60, help="seconds that no slope counts")
    parser.add_argument("--rounds", type=int, default=4, help="of the comparison; 0: none")
    parser.add_argument("--slice", type=float, default=20, help="seconds of each part of a round")
    parser.add_argument("--messages", type=Path, help="where to keep what the tracer said")
    parser.add_argument("--flag", action="append", default=[], help="for the tracer")
    given = parser.parse_args()
    if why := why_not(given.runtime):
        sys.exit(f"{given.runtime}: not here: {why}")
    with contextlib.ExitStack() as stack:
        images = stack.enter_context(tempfile.TemporaryDirectory(prefix="ig"))
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ig"))
        image = str(image_tar(Path(images)))
        starter = stack.enter_context(RUNTIMES[given.runtime](Path(directory)))
        argv = [
            *(IG_PY, "run", image, "--verify-image=false"),
            *("-o", "json", "-v", *starter.flags, *given.flag),
        ]
        if given.minutes:
            soak(argv, starter, given)
        if given.rounds:
            found = latency(argv, starter, given.parallel, given.rounds, given.slice)
            _print_latency(found)


if __name__ == "__main__":
    main()
