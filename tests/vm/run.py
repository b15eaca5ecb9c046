"""Run tests in a VM: ``run.py --kernel 6.12 [--report FILE] TEST...``.

The last line of the output is ``N passed, N failed, N skipped``; the exit code is 0 when
nothing failed. A guest that does not boot is a failure; a machine that cannot have guests
(no emulator, no such kernel) is told and counted as skipped, or as failed where
``IG_PY_REQUIRE`` asks for ``qemu``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import guest
import kernels
from support import features, gadget_build, root_gadget

from ig_py.errors import IgPyError

_CACHE = guest.CHECKOUT / ".cache/vm"
_SECONDS = 2400
# Gadgets of tests/gadgets whose images tests run, beside the one of this repository's root.
_IMAGES = ("trace_open", "two_buffers")
_COMPILING_TESTS = [
    f"tests/kernel/test_{name}.py"
    for name in (
        "core_families",
        "gadget_families",
        "gadget_loads",
        "header_answers",
        "header_sockets",
        "user_space_gadgets",
    )
]
# What Debian's kernels can do: there, a skip for want of one of these is a failure.
_GUEST_FEATURES = (
    "root,bpf,ringbuf,btf,kprobe,uprobe,tracepoint,raw_tracepoint,iter,fentry,lsm,cgroup2,"
    "cpu_limits,io_uring,overlayfs,settable_clock"
)
# Emulation is slow: every deadline of the tests is multiplied by this.
_SLOWNESS = "10"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make vm", description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", default="6.12", help="Debian kernel series (default: 6.12)")
    parser.add_argument("--report", type=Path, help="where to write the counts as JSON")
    parser.add_argument("--seconds", type=int, default=_SECONDS, help="time limit after boot")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("tests", nargs="+", help="what pytest runs in the guest")
    return parser.parse_args()


def _pytest(tests: list[str]) -> list[str]:
    python = guest.CHECKOUT / ".venv/bin/pytest"
    # No cache: the checkout is read-only there.
    options = ["-p", "no:cacheprovider", "-v", "--durations=20", "-m", "not any_kernel"]
    return [str(python), *options, *tests]


def _in_guest(arguments: argparse.Namespace, kernel: kernels.Kernel) -> dict[str, Any]:
    environment = {
        "IG_PY_REQUIRE": _GUEST_FEATURES,
        "IG_PY_SLOWNESS": _SLOWNESS,
        features.MAY_SET_CLOCK: "1",
        "IG_PY_VM": kernel.series,
        **dict(pair.split("=", 1) for pair in arguments.env),
    }
    runs = _CACHE / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs, prefix=f"{kernel.series}-") as directory:
        out = Path(directory)
        environment["IG_PY_TEST_REPORT"] = str(out / "report.json")
        # The guest would compile for minutes; the images are the same anyway.
        environment[root_gadget.IMAGES_VARIABLE] = str(out / "images")
        try:
            for name in _IMAGES:
                root_gadget.image_tar(out / "images", gadget_build.GADGETS / name)
            root_gadget.image_tar(out / "images", guest.CHECKOUT)
        except root_gadget.NoImage as error:
            return _failed(f"guest {kernel.series}", str(error))
        if any(
            file.startswith(test.partition("::")[0])
            for file in _COMPILING_TESTS
            for test in arguments.tests
        ):
            environment[gadget_build.VARIABLE] = str(out / "gadgets")
            try:
                gadget_build.build_all(out / "gadgets")
            except IgPyError as error:
                return _failed(f"guest {kernel.series}", str(error))
        vm = guest.Guest(kernel, out, lambda line: print(f"  [{kernel.series}] {line}", flush=True))
        try:
            result = vm.run(_pytest(arguments.tests), environment, arguments.seconds)
        except guest.GuestError as error:
            return _failed(f"guest {kernel.series}", str(error))
        report = out / "report.json"
        if not report.exists():
            return _failed(f"pytest in guest {kernel.series}", f"exit {result.status}, no report")
        counts: dict[str, Any] = json.loads(report.read_text())
        if not counts["passed"] and not counts["failed"] and not counts["skipped"]:
            return _failed(f"pytest in guest {kernel.series}", "no test ran")
        return counts


def _failed(what: str, why: str) -> dict[str, Any]:
    print(f"{what}: {why}", file=sys.stderr)
    return {"passed": 0, "failed": {what: why}, "skipped": {}}


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    what = f"guest {arguments.kernel}"
    why = features.missing("qemu") or guest.why_hidden(guest.CHECKOUT)
    if why is None:
        try:
            kernel = kernels.ensure(arguments.kernel, _CACHE / "kernels")
        except kernels.NoKernel as error:
            why = str(error)
        else:
            print(f"booting {kernel.release}", flush=True)
            return _in_guest(arguments, kernel)
    if features.required("qemu"):
        return _failed(what, why)
    print(f"{what}: cannot run here: {why}", file=sys.stderr)
    return {"passed": 0, "failed": {}, "skipped": {f"{what}: {' '.join(arguments.tests)}": why}}


def main() -> int:
    guest.end_with_sigterm_too()
    arguments = _arguments()
    counts = _run(arguments)
    if arguments.report:
        arguments.report.write_text(json.dumps(counts))
    passed, failed, skipped = counts["passed"], len(counts["failed"]), len(counts["skipped"])
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
