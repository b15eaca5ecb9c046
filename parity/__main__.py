"""Run one gadget under ig and ig-py at once and compare their events: ``make parity``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests/vm"))

import guest
import kernels
import tools
import workload
from compare import Comparison, compare
from report import render
from support import busybox, root_gadget
from support.processes import StartError
from support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[1]
IG_PY = ROOT / ".venv/bin/ig-py"
OUT = ROOT / "parity/out"
USAGE = """\
make parity compares ig-py with a real ig on this machine and needs:
  IG=/path/to/ig        the ig to compare with
and takes:
  VM=6.12               run both in a VM with that Debian kernel; without it, on this kernel
  IMAGE=image.tar       an image tar with one tagged image (default: the root gadget, built here)
  EXCEPT=args,...       full names of fields not to compare
  RUN_ARGS='--paths'    more flags for both tools (default: --paths)
  MODE=docker|host      what to watch: a Docker container (default), or processes of the host"""
VM_SECONDS = 900
EXIT_DIFFERENT, EXIT_CANNOT = 1, 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="parity", description=__doc__)
    parser.add_argument("--ig", type=Path, help="the ig to compare with")
    parser.add_argument("--vm", default="", help="Debian kernel series to run in")
    parser.add_argument("--image", type=Path, help="image tar (default: the root gadget)")
    parser.add_argument("--mode", choices=["docker", "host"], default="docker")
    parser.add_argument("--ignore", default="", help="full field names, separated by commas")
    parser.add_argument("--run-args", default="--paths", help="more flags for both tools")
    return parser.parse_args()


def _watching(run: tools.Run, load: workload.Workload) -> bool:
    return load.shown(run.lines())


def _watch(
    both: Sequence[tools.Tool], load: workload.Workload, arguments: argparse.Namespace, work: Path
) -> Comparison:
    flags = [
        *load.arguments,
        *("-o", "json", "--verify-image=false"),
        *shlex.split(arguments.run_args),
    ]
    with contextlib.ExitStack() as stack:
        runs = []
        for tool in both:
            run = tools.Run(tool, flags, work)
            stack.callback(run.close)
            runs.append(run)
        for run in runs:
            watching = functools.partial(_watching, run, load)
            wait_for(watching, f"{run.tool.name} shows an event", 90)
            print(f"{run.tool.name}: attached", flush=True)
        load.go()

        def complete() -> bool:
            return all(load.complete(run.lines()) for run in runs)

        with contextlib.suppress(TimeoutError):
            wait_for(complete, "the workload's last event under both tools", 10)
        for run in runs:
            run.stop()
        events = [[json.loads(line) for line in load.between(run.lines())] for run in runs]
    out = Path(os.environ.get("IG_PY_PARITY_OUT", OUT))
    out.mkdir(parents=True, exist_ok=True)
    for run in runs:
        run.keep(out)
    return compare(events[0], events[1], _ignored(arguments))


def _ignored(arguments: argparse.Namespace) -> frozenset[str]:
    return frozenset(filter(None, arguments.ignore.split(",")))


def _here(arguments: argparse.Namespace, image: Path, work: Path) -> int:
    run_in = workload.in_container if arguments.mode == "docker" else workload.on_host
    ig_py = tools.for_ig_py(IG_PY, image)
    with tools.for_ig(arguments.ig, image) as ig:
        same_digest = ig.digest == ig_py.digest
        print(f"digest ig      {ig.digest}\ndigest ig-py   {ig_py.digest}", flush=True)
        with run_in(work) as load:
            result = _watch((ig, ig_py), load, arguments, work)
    print(render(result, "ig", "ig-py", _ignored(arguments)))
    if not same_digest:
        print("DIFFERENT: the digests")
    return 0 if result.same and same_digest else EXIT_DIFFERENT


def _in_vm(arguments: argparse.Namespace, image: Path) -> int:
    try:
        kernel = kernels.ensure(arguments.vm, ROOT / ".cache/vm/kernels")
    except kernels.NoKernel as error:
        raise tools.ToolError(f"no VM with kernel {arguments.vm}: {error}") from error
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT, prefix="vm-") as directory:
        out = Path(directory)
        environment = {
            "IG_PY_SLOWNESS": "10",
            "IG_PY_PARITY_OUT": str(out),
        }
        command = [
            *(sys.executable, str(ROOT / "parity"), "--ig", str(arguments.ig)),
            *("--image", str(shutil.copy(image, out)), "--mode", arguments.mode),
            *("--ignore", arguments.ignore, f"--run-args={arguments.run_args}"),
        ]
        print(f"booting {kernel.release}", flush=True)
        vm = guest.Guest(kernel, out, lambda line: print(line, flush=True))
        try:
            result = vm.run(command, environment, VM_SECONDS)
        except guest.GuestError as error:
            raise tools.ToolError(f"guest {kernel.release}: {error}") from error
        for path in [*out.glob("*.json"), *out.glob("*.messages")]:
            path.replace(OUT / path.name)
    print(f"events of both: {OUT}", flush=True)
    return result.status


def main() -> int:
    arguments = _arguments()
    if arguments.ig is None or not str(arguments.ig).strip("."):
        print(USAGE, file=sys.stderr)
        return EXIT_CANNOT
    arguments.ig = arguments.ig.resolve()
    if not os.access(arguments.ig, os.X_OK):
        print(f"error: IG={arguments.ig}: no program there\n\n{USAGE}", file=sys.stderr)
        return EXIT_CANNOT
    if os.geteuid():
        print("error: both tools load BPF programs: run as root", file=sys.stderr)
        return EXIT_CANNOT
    try:
        with tempfile.TemporaryDirectory(prefix="ig-py-parity-") as directory:
            work = Path(directory)
            image = (arguments.image or root_gadget.image_tar(work / "image")).resolve()
            if arguments.vm:
                return _in_vm(arguments, image)
            return _here(arguments, image, work)
    except (tools.ToolError, root_gadget.NoImage, StartError, busybox.NoBusybox, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_CANNOT


if __name__ == "__main__":
    # SIGTERM unwinds like Ctrl-C, so that nothing stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
