"""One short command in a container of each runtime, behind one interface."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from support import features
from support.busybox import import_image
from support.containerd import own_containerd
from support.cri import Cri
from support.engine import own_engine
from support.image_archive import NAME
from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime
from support.podman import Podman
from support.processes import StartError, output

COMMAND = "/bin/echo"
"""What the containers run, with their own name as its argument."""


@dataclass(frozen=True)
class Starter:
    """*flags* make a tracer ask the engine; *start* runs a container of that name to its end,
    from any thread."""

    flags: tuple[str, ...]
    start: Callable[[str], None]


@contextlib.contextmanager
def _by_hand(program: str, directory: Path) -> Iterator[Starter]:
    runtime = Runtime(program, str(directory / "state"))
    common = make_bundle(directory / "common", COMMAND)
    config = json.loads((common / "config.json").read_text())
    config["root"] = {"path": str(common / "rootfs"), "readonly": True}

    def start(name: str) -> None:
        bundle = directory / name
        bundle.mkdir()
        process = {**config["process"], "args": [COMMAND, name]}
        (bundle / "config.json").write_text(json.dumps({**config, "process": process}))
        output(runtime.argv("run", "--bundle", str(bundle), name))
        shutil.rmtree(bundle)

    yield Starter((), start)


def runc(directory: Path) -> AbstractContextManager[Starter]:
    return _by_hand("runc", directory)


def crun(directory: Path) -> AbstractContextManager[Starter]:
    return _by_hand("crun", directory)


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Starter]:
    with own_engine(directory) as engine:
        with contextlib.closing(engine.client()) as client:
            image = import_image(client)

        def start(name: str) -> None:
            with contextlib.closing(engine.client()) as client:
                client.containers.run(
                    image, [COMMAND, name], name=name, network_mode="none", remove=True
                )

        yield Starter(("--runtimes=docker", f"--docker-socketpath={engine.socket}"), start)


@contextlib.contextmanager
def containerd(directory: Path) -> Iterator[Starter]:
    with own_containerd(directory) as engine:
        engine.load()

        def start(name: str) -> None:
            engine.ctr(
                *("run", "--rm", "--snapshotter=native", "--null-io", "--net-host"),
                *(NAME, name, COMMAND, name),
            )

        yield Starter(_containerd_flags(engine.socket), start)


@contextlib.contextmanager
def cri(directory: Path) -> Iterator[Starter]:
    """All in one pod; they are there until the pod is removed."""
    with own_containerd(directory, cri=True) as engine:
        engine.load("k8s.io")
        engine.load_pause()
        with contextlib.closing(Cri(engine.socket)) as service:
            pod = service.pod("first", {})
            try:
                yield Starter(
                    _containerd_flags(engine.socket),
                    lambda name: service.start(service.container(pod, name, COMMAND, name)),
                )
            finally:
                service.remove(pod)


def _containerd_flags(socket: Path) -> tuple[str, ...]:
    return "--runtimes=containerd", f"--containerd-socketpath={socket}"


@contextlib.contextmanager
def podman(directory: Path) -> Iterator[Starter]:
    """Without its service: no engine answers."""
    with _podman(directory) as engine:
        yield Starter((), lambda name: _run_podman(engine, name))


@contextlib.contextmanager
def podman_service(directory: Path) -> Iterator[Starter]:
    with _podman(directory) as engine, engine.service() as socket:
        flags = ("--runtimes=podman", f"--podman-socketpath={socket}")
        yield Starter(flags, lambda name: _run_podman(engine, name))


@contextlib.contextmanager
def _podman(directory: Path) -> Iterator[Podman]:
    directory.mkdir(parents=True, exist_ok=True)
    engine = Podman(directory)
    engine.load()
    try:
        yield engine
    finally:
        engine.remove_all()


def _run_podman(engine: Podman, name: str) -> None:
    engine.run(name, COMMAND, name, remove=True)


RUNTIMES: dict[str, Callable[[Path], AbstractContextManager[Starter]]] = {
    "docker": docker,
    "containerd": containerd,
    "cri": cri,
    "podman": podman,
    "podman-service": podman_service,
    "runc": runc,
    "crun": crun,
}
"""*directory* is where a runtime keeps its files; a short path, because of its sockets."""
_NEEDS = {
    "docker": ("engine",),
    "containerd": ("containerd",),
    "cri": ("containerd",),
    "podman": ("podman", "runc"),
    "podman-service": ("podman", "runc"),
    "runc": ("runc",),
    "crun": ("crun", "runc"),
}


def why_not(runtime: str) -> str | None:
    """Why this machine cannot run containers of *runtime*; None when it can."""
    names = ("busybox", *_NEEDS[runtime])
    return next(filter(None, (features.missing(name) for name in names)), None)


@contextlib.contextmanager
def needed(runtime: str) -> Iterator[None]:
    """Ends the test where this machine cannot run containers of *runtime*, or its engine does
    not start within the block."""
    features.need("busybox", *_NEEDS[runtime])
    try:
        yield
    except StartError as error:
        features.lack(_NEEDS[runtime][0], str(error))
