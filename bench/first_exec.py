"""Is the first execution of every container seen, and named right?

    .venv/bin/python bench/first_exec.py --runtime runc --runtime docker --count 200
    .venv/bin/python bench/first_exec.py --runtime docker --tool /path/to/ig

Starts containers that run one short command, as fast as they start, under a tracer, and prints
one row for each runtime: ``wrong`` are executions under another container's name, or under none.
Needs root; Docker is one of our own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support import tracer  # noqa: E402
from support.busybox import import_image  # noqa: E402
from support.engine import own_engine  # noqa: E402
from support.oci_bundle import make_bundle  # noqa: E402
from support.processes import end  # noqa: E402
from support.root_gadget import image_tar  # noqa: E402
from support.waiting import deadline, wait_for  # noqa: E402

COMMAND = "/bin/echo"
SEPARATOR = "\N{NO-BREAK SPACE}"
SETTLE_SECONDS = 10
LINKS = 4
"""Programs of the gadget that attach everywhere."""

Start = Callable[[str], None]


@contextlib.contextmanager
def runc(directory: Path, program: str) -> Iterator[tuple[list[str], Start]]:
    def start(name: str) -> None:
        bundle = make_bundle(directory / name, COMMAND, name)
        # Not below the bundle: upstream looks for no state, and we shall need none.
        argv = [program, "--root", str(directory / "state"), "run", "--bundle", str(bundle), name]
        subprocess.run(
            argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline(60)
        )
        shutil.rmtree(bundle)

    yield [], start


@contextlib.contextmanager
def docker(directory: Path, _program: str) -> Iterator[tuple[list[str], Start]]:
    with own_engine(directory) as engine:
        with contextlib.closing(engine.client()) as client:
            image = import_image(client)

        def start(name: str) -> None:
            with contextlib.closing(engine.client()) as client:
                client.containers.run(
                    image, [COMMAND, name], name=name, network_mode="none", remove=True
                )

        yield ["--runtimes=docker", f"--docker-socketpath={engine.socket}"], start


RUNTIMES = {"runc": runc, "crun": runc, "docker": docker}


def measure(tool: str, runtime: str, count: int, parallel: int, directory: Path) -> dict[str, int]:
    names = [f"first-{os.getpid()}-{number}" for number in range(count)]
    output, messages = directory / "events", directory / "messages"
    with RUNTIMES[runtime](directory / runtime, runtime) as (arguments, start):
        argv = [tool, "run", str(image_tar(directory)), "--verify-image=false", "-o", "json"]
        if Path(tool).name == "ig":
            argv[2] = imported(tool, argv[2])
        with output.open("wb") as out, messages.open("wb") as err:
            run = subprocess.Popen(
                [*argv, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        try:
            wait_for(lambda: tracer.links(run.pid) >= LINKS, "the tracer is attached", 60)
            time.sleep(deadline(1) / 2)
            begun = time.monotonic()
            with ThreadPoolExecutor(parallel) as pool:
                list(pool.map(start, names))
            seconds = time.monotonic() - begun
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: len(seen(output, names)) >= count, "all", SETTLE_SECONDS)
            run.send_signal(signal.SIGINT)
            run.wait(deadline(30))
        finally:
            end(run)
    found = seen(output, names)
    right = sum(1 for name, container in found.items() if container == name)
    print(messages.read_text(), file=sys.stderr)
    return {
        "containers": count,
        "seen": len(found),
        "named": right,
        "missed": count - len(found),
        "wrong": len(found) - right,
        "starts_per_s": round(count / seconds),
    }


def imported(tool: str, tar: str) -> str:
    done = subprocess.run(
        [tool, "image", "import", tar], check=True, capture_output=True, text=True
    )
    return done.stdout.split()[-1].partition("@")[0]


def seen(output: Path, names: list[str]) -> dict[str, str]:
    """What a container printed its name is -> the name that the tracer says."""
    wanted, found = set(names), {}
    for line in output.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            event = json.loads(line)
            command, _, name = event["args"].replace(SEPARATOR, " ").partition(" ")
            if command == COMMAND and name in wanted:
                found[name] = event["runtime"]["containerName"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", default=str(Path(sys.executable).with_name("ig-py")))
    parser.add_argument("--runtime", action="append", choices=sorted(RUNTIMES), required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=4)
    given = parser.parse_args()
    for runtime in given.runtime:
        with tempfile.TemporaryDirectory() as directory:
            row = measure(given.tool, runtime, given.count, given.parallel, Path(directory))
        cells = ", ".join(f"{value} {key}" for key, value in row.items())
        print(f"{Path(given.tool).name}, {runtime}: {cells}", flush=True)


if __name__ == "__main__":
    main()
