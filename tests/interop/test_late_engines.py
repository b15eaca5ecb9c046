"""Programs are attached to containers of engines that start while a gadget runs: an engine tells of
them before their runtime has made them. ``IG_PY_LATE``: how many of each engine (20 by default).
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.bridge import ADDRESS, bridge
from support.containerd import needed_containerd
from support.engine import needed_engine
from support.gadget_format import GADGETS
from support.root_gadget import image_tar
from support.root_trees import PROGRAM, make_tree
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "uprobe", "ringbuf", "clang"),
    pytest.mark.timeout(300),
]

CONTAINERS = int(os.environ.get("IG_PY_LATE", "20"))
AT_ONCE = 2
IMAGE = "ig-py-late:probes"
PORT = 47_022
COMMAND = (PROGRAM, "repeat", "150", ADDRESS, str(PORT))
"""Calls and packets, 20 ms apart."""


@dataclass(frozen=True)
class Starter:
    """*flags* make a gadget ask the engine; *start* begins a container of that name, which has a
    network namespace of its own without an interface, and returns the process id of its init."""

    flags: tuple[str, ...]
    start: Callable[[str], int]


@contextlib.contextmanager
def docker(tree: Path, directory: Path) -> Iterator[Starter]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tree, arcname="/")
    with needed_engine(directory) as engine, contextlib.closing(engine.client()) as client:
        name, tag = IMAGE.split(":")
        client.api.import_image_from_data(packed.getvalue(), repository=name, tag=tag)

        def start(name: str) -> int:
            with contextlib.closing(engine.client()) as client:
                made = client.containers.run(
                    IMAGE, list(COMMAND), name=name, network_mode="none", detach=True
                )
                made.reload()
                return int(made.attrs["State"]["Pid"])

        yield Starter(("-r", "docker", f"--docker-socketpath={engine.socket}"), start)


@contextlib.contextmanager
def containerd(tree: Path, directory: Path) -> Iterator[Starter]:
    with needed_containerd(directory) as engine:

        def start(name: str) -> int:
            engine.ctr("run", "--detach", "--null-io", "--rootfs", str(tree), name, *COMMAND)
            tasks = [line.split() for line in engine.ctr("tasks", "ls").splitlines()]
            return next(int(task[1]) for task in tasks if task[0] == name)

        yield Starter(("-r", "containerd", f"--containerd-socketpath={engine.socket}"), start)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("gadgets")
    names = ("user_functions", "packet_classifier")
    return [str(image_tar(directory, GADGETS / name)) for name in names]


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(docker, marks=pytest.mark.needs("engine")),
        pytest.param(containerd, marks=pytest.mark.needs("containerd")),
    ],
)
def test_containers_that_start_late(
    engine: Callable[[Path, Path], AbstractContextManager[Starter]],
    images: list[str],
    tmp_path: Path,
) -> None:
    tree = make_tree(tmp_path / "tree", "usual", "user_functions", tmp_path)
    names = [f"ig-py-late-{number}" for number in range(CONTAINERS)]
    # Not below pytest's directories: sockets have short paths.
    with (
        tempfile.TemporaryDirectory(prefix="ig") as place,
        bridge() as network,
        engine(tree, Path(place, "e")) as starter,
    ):
        flags = ("--verify-image=false", "-o", "json", *starter.flags)
        probing = RunningGadget(tmp_path / "probes", images[0], *flags)
        classifying = RunningGadget(tmp_path / "classifier", images[1], *flags)
        with probing, classifying:
            for gadget in (probing, classifying):
                gadget.wait_running()

            def start(number: int) -> None:
                network.plug(starter.start(names[number]), number)

            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(start, range(CONTAINERS)))

            def called() -> set[str]:
                return {e["runtime"]["containerName"] for e in probing.events()}

            def sent() -> set[str]:
                events = [e for e in classifying.events() if (e["port"], e["egress"]) == (PORT, 1)]
                return {e["runtime"]["containerName"] for e in events}

            wait_for(lambda: called() >= set(names), "calls of every container", 20)
            wait_for(lambda: sent() >= set(names), "packets of every container", 20)
            for gadget in (probing, classifying):
                assert gadget.end() == 0
                assert "not attached" not in gadget.err
        assert called() == sent() == set(names)
