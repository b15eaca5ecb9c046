"""Programs are attached to containers of engines that start while a gadget runs: an engine tells of
them before their runtime has made them. ``IG_PY_LATE``: how many of each engine (20 by default).
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import features
from support.bridge import bridge
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
TIMES = 150
"""Calls and packets of a container, 20 ms apart."""
HELD = 4
TIMES_WHEN_HELD = 5


@dataclass(frozen=True)
class Starter:
    """*flags* make a gadget ask the engine; *start* begins a container with that name and that
    command, which has a network namespace of its own without an interface; *pid*: of its init."""

    flags: tuple[str, ...]
    start: Callable[[str, list[str]], object]
    pid: Callable[[str], int]


@contextlib.contextmanager
def docker(tree: Path, directory: Path) -> Iterator[Starter]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tree, arcname="/")
    with needed_engine(directory) as engine, contextlib.closing(engine.client()) as client:
        name, tag = IMAGE.split(":")
        client.api.import_image_from_data(packed.getvalue(), repository=name, tag=tag)

        def start(name: str, command: list[str]) -> None:
            with contextlib.closing(engine.client()) as client:
                client.containers.run(IMAGE, command, name=name, network_mode="none", detach=True)

        def pid(name: str) -> int:
            with contextlib.closing(engine.client()) as client:
                return int(client.containers.get(name).attrs["State"]["Pid"])

        yield Starter(("-r", "docker", f"--docker-socketpath={engine.socket}"), start, pid)


@contextlib.contextmanager
def containerd(tree: Path, directory: Path) -> Iterator[Starter]:
    with needed_containerd(directory) as engine:

        def start(name: str, command: list[str]) -> None:
            engine.ctr("run", "--detach", "--null-io", "--rootfs", str(tree), name, *command)

        def pid(name: str) -> int:
            tasks = [line.split() for line in engine.ctr("tasks", "ls").splitlines()]
            return next(int(task[1]) for task in tasks if task[0] == name)

        yield Starter(("-r", "containerd", f"--containerd-socketpath={engine.socket}"), start, pid)


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
                command = [PROGRAM, "repeat", str(TIMES), network.address, str(PORT)]
                starter.start(names[number], command)
                network.plug(starter.pid(names[number]), number)

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
            assert "not attached" not in probing.err
        assert called() == sent() == set(names)
        if features.missing("hold") is None:
            check_held(tmp_path / "held", images[0], starter)


def check_held(directory: Path, probes: str, starter: Starter) -> None:
    """Containers that start while runtimes are held are seen from their first call on."""
    names = [f"ig-py-held-{number}" for number in range(HELD)]
    flags = ("--verify-image=false", "-o", "json", "--hold-containers", *starter.flags)
    with RunningGadget(directory, probes, *flags, "-c", ",".join(names)) as gadget:
        gadget.wait_running()
        for name in names:
            starter.start(name, [PROGRAM, "repeat", str(TIMES_WHEN_HELD)])
        wait_for(lambda: len(gadget.events()) >= HELD * TIMES_WHEN_HELD, "all calls", 20)
        assert gadget.end() == 0
    calls = Counter(e["runtime"]["containerName"] for e in gadget.events())
    assert calls == dict.fromkeys(names, TIMES_WHEN_HELD)
    assert " 0 to the deadline; 0 not held" in gadget.err
