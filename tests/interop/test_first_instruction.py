"""Short containers of containerd, its CRI and podman: the first execution of each is seen, and
under the right name. ``IG_PY_STARTS`` says how many of each (200 takes minutes)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.containerd import own_containerd
from support.cri import Cri
from support.features import missing
from support.image_archive import NAME
from support.podman import Podman
from support.processes import StartError
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "busybox", "runc"),
    pytest.mark.timeout(3600),
]

STARTS = int(os.environ.get("IG_PY_STARTS", "6"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ig") as path:
        yield Path(path)


def first_executions(
    directory: Path, image: str, flags: tuple[str, ...], start: Callable[[str], object]
) -> dict[str, list[str]]:
    """Container name → what was executed in it, of STARTS containers one after another."""
    names = [f"ig-py-first-{number}" for number in range(STARTS)]
    arguments = ("--verify-image=false", "-o", "json", "--fail-on-loss", *flags)
    with RunningGadget(directory / "run", image, *arguments) as gadget:
        gadget.wait_running()
        for name in names:
            start(name)
        wait_for(lambda: gadget.out.count("ig-py-first-") >= STARTS, "their events", 20)
        assert gadget.end() == 0, gadget.err
        found: dict[str, list[str]] = {name: [] for name in names}
        for event in gadget.events():
            args = event["args"].replace("\u00a0", " ")
            found.setdefault(event["runtime"]["containerName"], []).append(args)
    return found


def expected(command: str) -> dict[str, list[str]]:
    return {f"ig-py-first-{number}": [command] for number in range(STARTS)}


def test_containerd(tmp_path: Path, short_path: Path, image: str) -> None:
    if why := missing("containerd"):
        pytest.skip(why)
    try:
        with own_containerd(short_path) as engine:
            engine.load()

            def start(name: str) -> None:
                engine.ctr(
                    *("run", "--rm", "--snapshotter=native", "--null-io", "--net-host"),
                    *(NAME, name, "/bin/true"),
                )

            flags = ("-r", "containerd", f"--containerd-socketpath={engine.socket}")
            found = first_executions(tmp_path, image, flags, start)
    except StartError as error:
        pytest.skip(f"no containerd of our own: {error}")
    assert found == expected("/bin/true")


def test_cri(tmp_path: Path, short_path: Path, image: str) -> None:
    if why := missing("containerd"):
        pytest.skip(why)
    try:
        with own_containerd(short_path, cri=True) as engine:
            engine.load("k8s.io")
            engine.load_pause()
            with closing(Cri(engine.socket)) as cri:
                pod = cri.pod("first", {})
                try:
                    flags = ("-r", "containerd", f"--containerd-socketpath={engine.socket}")
                    found = first_executions(
                        tmp_path,
                        image,
                        flags,
                        lambda name: cri.start(cri.container(pod, name, "/bin/true")),
                    )
                finally:
                    cri.remove(pod)
    except StartError as error:
        pytest.skip(f"no containerd of our own: {error}")
    assert found == expected("/bin/true")


@pytest.mark.parametrize("service", [True, False])
def test_podman(tmp_path: Path, short_path: Path, image: str, service: bool) -> None:
    if why := missing("podman"):
        pytest.skip(why)
    podman = Podman(short_path)
    podman.load()
    try:

        def start(name: str) -> None:
            podman.run(name, "/bin/true", remove=True)

        if service:
            with podman.service() as socket:
                flags = ("-r", "podman", f"--podman-socketpath={socket}")
                found = first_executions(tmp_path, image, flags, start)
        else:
            found = first_executions(tmp_path, image, (), start)
    finally:
        podman.remove_all()
    assert found == expected("/bin/true")
