"""Run tests on a machine as people have it: ``shared_machine.py PYTEST-ARGUMENT...``.

tracefs, debugfs and a bpffs are mounted; the store has an image; a Docker engine, a containerd and
podman have containers at their usual places, and one container is of no engine. All of it is in a
mount namespace of its own and ends with the tests. Whatever the tests leave there (pins, images,
containers, mounts) is a failure. The exit code is pytest's, or 3 when something was left.

Where an engine does not start, the rest is done without it, and the first lines say so. Root alone
can run it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support import features, mounts
from support.busybox import import_image
from support.containerd import own_containerd
from support.engine import own_engine
from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime
from support.podman import Podman
from support.processes import StartError, output
from support.running_gadget import ig_py

ROOT = Path(__file__).resolve().parents[1]
RUN = Path("/run")
STORE = Path("/var/lib/ig")
IMAGE = "foreign.local/process_table:1"
LOOP = ("/bin/sh", "-c", "while :; do /bin/true; sleep 1; done")
"""What the containers do: a gadget that shows them shows something all the time."""
LEFT = 3


@dataclass
class Machine:
    """What there is: *listings* say it by a name, to be asked before and after the tests."""

    listings: dict[str, Callable[[], list[str]]] = field(default_factory=dict)

    def state(self) -> dict[str, list[str]]:
        return {name: sorted(listing()) for name, listing in self.listings.items()}


def _lines(*argv: str) -> list[str]:
    return output(argv).splitlines()


@contextlib.contextmanager
def _docker(directory: Path, machine: Machine) -> Iterator[None]:
    with own_engine(directory) as engine, contextlib.closing(engine.client()) as client:
        image = import_image(client, "foreign/busybox:1")
        (RUN / "docker.sock").symlink_to(engine.socket)
        machine.listings["Docker's containers"] = lambda: [
            str(c.id) for c in client.containers.list(all=True)
        ]
        machine.listings["Docker's images"] = lambda: [str(i.id) for i in client.images.list()]
        # A name that tests use, too, in engines of their own.
        with engine.container(image, [*LOOP], "ig-py-demo"):
            yield


@contextlib.contextmanager
def _containerd(directory: Path, machine: Machine) -> Iterator[None]:
    with own_containerd(directory) as engine:
        engine.load("foreign")
        engine.run("foreign", *LOOP, namespace="foreign")
        (RUN / "containerd").mkdir(exist_ok=True)
        (RUN / "containerd/containerd.sock").symlink_to(engine.socket)
        machine.listings["containerd's containers"] = lambda: engine.ctr(
            "containers", "ls", "-q", namespace="foreign"
        ).splitlines()
        yield


@contextlib.contextmanager
def _podman(directory: Path, machine: Machine) -> Iterator[None]:
    directory.mkdir()
    engine = Podman(directory)
    engine.load()
    engine.run("foreign-podman", *LOOP)
    machine.listings["podman's containers"] = lambda: engine.call("ps", "-aq").splitlines()
    try:
        yield
    finally:
        engine.remove_all()


@contextlib.contextmanager
def _runc(directory: Path, machine: Machine) -> Iterator[None]:
    runtime = Runtime("runc", str(directory / "state"))
    runtime.run("foreign-runc", make_bundle(directory / "bundle", *LOOP))
    machine.listings["runc's containers"] = lambda: _lines(*runtime.argv("list", "-q"))
    try:
        yield
    finally:
        runtime.remove("foreign-runc")


_ENGINES = {"docker": _docker, "containerd": _containerd, "podman": _podman, "runc": _runc}
_NEEDS = {"docker": "engine", "containerd": "containerd", "podman": "podman", "runc": "runc"}


def _start_engines(stack: contextlib.ExitStack, directory: Path, machine: Machine) -> None:
    for name, engine in _ENGINES.items():
        why = features.missing(_NEEDS[name]) or features.missing("busybox")
        if why is None:
            try:
                stack.enter_context(engine(directory / name, machine))
            except (StartError, subprocess.SubprocessError) as error:
                why = str(error).replace("\n", "; ")
        print(f"{name}: {f'none, {why}' if why else 'a container runs'}", flush=True)


def _fill_store(machine: Machine) -> None:
    STORE.mkdir(parents=True, exist_ok=True)
    mounts.mount("tmpfs", STORE)
    gadget = str(ROOT / "tests/gadgets/process_table")
    built = ig_py("image", "build", gadget, "-t", IMAGE)
    if built.returncode:
        raise StartError(built.stderr)
    print(f"the store {STORE} has {IMAGE}", flush=True)
    machine.listings[f"files of {STORE}"] = lambda: [
        str(path) for path in STORE.rglob("*") if path.is_file()
    ]


def _pins() -> list[str]:
    # The file system itself has two files, for looking at what is loaded.
    return [p.name for p in mounts.BPFFS.iterdir() if p.suffix != ".debug"]


def main(arguments: list[str]) -> int:
    if why := features.missing("root"):
        print(f"a shared machine needs root: {why}", file=sys.stderr)
        return 2
    if ROOT.is_relative_to(RUN):
        print(f"{RUN} is replaced for the tests: move the checkout elsewhere", file=sys.stderr)
        return 2
    machine = Machine()
    with (
        # Sockets have short paths.
        tempfile.TemporaryDirectory(prefix="igsh") as name,
        mounts.tracing_mounted(),
        contextlib.ExitStack() as stack,
    ):
        mounts.mount("tmpfs", RUN)
        _fill_store(machine)
        _start_engines(stack, Path(name), machine)
        machine.listings["pins"] = _pins
        machine.listings["mounts"] = lambda: mounts.below(Path("/sys/kernel")) + mounts.below(RUN)
        # The first look at it mounts it.
        (mounts.DEBUGFS / "tracing/events").exists()
        before = machine.state()
        program = shutil.which("pytest", path=str(Path(sys.executable).parent))
        status = subprocess.call([program or "pytest", *arguments], cwd=ROOT)
        left = _differences(before, machine.state())
    for line in left:
        print(f"LEFT: {line}", file=sys.stderr, flush=True)
    return status or (LEFT if left else 0)


def _differences(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    found = []
    for name in before.keys() & after.keys():
        found += [f"{name}: {entry} is new" for entry in set(after[name]) - set(before[name])]
        found += [f"{name}: {entry} is gone" for entry in set(before[name]) - set(after[name])]
    return sorted(found)


if __name__ == "__main__":
    os.environ.pop("IG_PY_STORE", None)
    sys.exit(main(sys.argv[1:]))
