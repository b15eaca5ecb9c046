"""Programs are attached to containers that start while a gadget runs.

``IG_PY_LATE``: how many containers of a kind (20 by default).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.bridge import Bridge, bridge
from support.engine import find_program
from support.gadget_format import GADGETS
from support.load import busy_processors
from support.oci_bundle import make_bundle, runc_spec
from support.oci_runtime import Runtime
from support.root_gadget import image_tar
from support.root_trees import LAYOUTS, MUSL, PROGRAM, make_tree
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "uprobe", "ringbuf", "clang", "runc"),
    pytest.mark.timeout(600),
]

CONTAINERS = int(os.environ.get("IG_PY_LATE", "20"))
CALLS = 150
"""Of each function by each container, and packets, 20 ms apart."""
CALLS_WHEN_HELD = 10
PORT = 47_021
TCP_PORT = 47_013
"""Of the gadget socket_programs."""
AT_ONCE = 2


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("built")


def changed_gadget(name: str, directory: Path, **targets: str) -> Path:
    """A copy of a gadget's directory whose programs have other targets."""
    source = directory / name
    source.mkdir()
    for path in (GADGETS / name).iterdir():
        text = path.read_text()
        if path.name == "gadget.yaml":
            text = text[: text.index("programs:")] + "programs:\n"
            text += "".join(f"  {p}: {{attach_to: {json.dumps(t)}}}\n" for p, t in targets.items())
        (source / path.name).write_text(text)
    return source


@pytest.fixture(scope="module")
def probing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Calls of a function of the containers' program, and of one of their C library."""
    disabled = "gadget_program_disabled"
    directory = tmp_path_factory.mktemp("gadget")
    source = changed_gadget(
        "user_functions",
        directory,
        on_function=f"{PROGRAM}:user_double",
        on_return=disabled,
        on_many=disabled,
    )
    return str(image_tar(directory, source))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("gadget"), GADGETS / "packet_classifier"))


@pytest.fixture(scope="module")
def socket_filter(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("gadget"), GADGETS / "packet_filter"))


@pytest.fixture
def network() -> Iterator[Bridge]:
    with bridge() as made:
        yield made


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return runc_spec(tmp_path_factory.mktemp("spec"))


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    request.applymarker(pytest.mark.needs(request.param))
    return Runtime(request.param, str(tmp_path / "state"))


def bundle(directory: Path, spec: dict[str, Any], tree: Path, *command: str, **more: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    config = {**spec, "process": {**spec["process"], "args": list(command)}, **more}
    config["root"] = {"path": str(tree), "readonly": True}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def run_all(
    runtime: Runtime, bundles: dict[str, Path], network: Bridge, *, early: bool = False
) -> None:
    """Start them, :data:`AT_ONCE` at the same time. Their interface is there before they start, or,
    of every second one unless *early*, comes while they run."""

    def start(number: int, name: str) -> None:
        if early or number % 2:
            runtime.call("create", "--bundle", str(bundles[name]), name)
            network.plug(runtime.pid(name), number)
            runtime.call("start", name)
        else:
            runtime.run(name, bundles[name])
            network.plug(runtime.pid(name), number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(start, range(len(bundles)), bundles))


@pytest.fixture
def times() -> int:
    return CALLS


@pytest.fixture
def bundles(
    tmp_path: Path, built: Path, spec: dict[str, Any], runtime: Runtime, network: Bridge, times: int
) -> Iterator[dict[str, Path]]:
    """Each container has files of its own: no probe is there for another one's sake."""
    found = {}
    for number in range(CONTAINERS):
        layout = LAYOUTS[number % len(LAYOUTS)]
        name = f"ig-py-late-{layout}-{number}"
        tree = make_tree(tmp_path / "trees" / name, layout, "user_functions", built)
        command = (PROGRAM, "repeat", str(times), network.address, str(PORT))
        found[name] = bundle(tmp_path / "bundles" / name, spec, tree, *command)
    yield found
    for name in found:
        runtime.remove(name)


def tracing(directory: Path, image: str, *more: str) -> RunningGadget:
    arguments = ("--verify-image=false", "-o", "json", "-r", "runc", *more)
    return RunningGadget(directory, image, *arguments)


def calls(gadget: RunningGadget) -> Counter[tuple[str, str]]:
    """Events by container and by what was called: ``function`` or ``library``."""
    return Counter((e["runtime"]["containerName"], e["program"]) for e in gadget.events())


def wanted(names: dict[str, Path]) -> set[tuple[str, str]]:
    return {
        (name, program)
        for name in names
        for program in ("function", "library")
        if program == "function" or "static" not in name
    }


def check_warnings(gadget: RunningGadget, names: dict[str, Path]) -> None:
    """What cannot be attached is told, and nothing else: the static program has no library."""
    told = [line for line in gadget.err.splitlines() if "not attached" in line]
    for name in names:
        lines = [line for line in told if f"'{name}'" in line]
        assert len(lines) == ("static" in name), gadget.err
        assert all("on_library" in line and "level=warning" in line for line in lines)
        assert not [line for line in lines if "on_function" in line]


def packets(gadget: RunningGadget, **wanted: int) -> Counter[str]:
    """Packets of each container to :data:`PORT`."""
    return Counter(
        e["runtime"]["containerName"]
        for e in gadget.events()
        if e["port"] == PORT and wanted.items() <= e.items()
    )


def test_containers_that_start_late(
    tmp_path: Path,
    probing: str,
    classifier: str,
    socket_filter: str,
    runtime: Runtime,
    bundles: dict[str, Path],
    network: Bridge,
) -> None:
    flags = ("-c", ",".join(bundles))
    with (
        tracing(tmp_path / "probes", probing, *flags) as probes,
        tracing(tmp_path / "classifier", classifier, *flags) as classified,
        tracing(tmp_path / "filter", socket_filter, *flags) as filtered,
    ):
        for gadget in (probes, classified, filtered):
            gadget.wait_running()
        run_all(runtime, bundles, network)
        wait_for(lambda: wanted(bundles) <= calls(probes).keys(), "calls of every container", 20)
        for gadget, direction in ((classified, "egress"), (filtered, "outgoing")):
            wait_for(
                lambda gadget=gadget, only={direction: 1}: (
                    bundles.keys() <= packets(gadget, **only).keys()
                ),
                f"{direction} packets of every container",
                20,
            )
        for gadget in (probes, classified, filtered):
            assert gadget.end() == 0
    assert calls(probes).keys() == wanted(bundles)
    assert packets(classified).keys() == bundles.keys()
    check_warnings(probes, bundles)
    # On a busy machine an interface may come later than a container without any is told.
    told = [line for line in classified.err.splitlines() if "not attached" in line]
    assert [line for line in told if "no interface that is up" not in line] == []
    assert "not attached" not in filtered.err


@pytest.mark.needs("hold")
@pytest.mark.parametrize("times", [CALLS_WHEN_HELD])
def test_held_containers_miss_no_call(
    tmp_path: Path,
    probing: str,
    classifier: str,
    runtime: Runtime,
    bundles: dict[str, Path],
    network: Bridge,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also on a machine with too much to do: programs are attached late there."""
    # A guest's own root is a file system whose files cannot be held.
    program = shutil.copy(find_program(runtime.program), str(tmp_path / runtime.program))
    monkeypatch.setenv("RUNTIME_PATH", program)
    held = Runtime(program, runtime.root)
    flags = ("--hold-containers", "-c", ",".join(bundles))
    with (
        busy_processors(),
        tracing(tmp_path / "probes", probing, *flags) as probes,
        tracing(tmp_path / "classifier", classifier, *flags) as classified,
    ):
        for gadget in (probes, classified):
            gadget.wait_running()
        run_all(held, bundles, network, early=True)
        wait_for(lambda: all_ended(held, bundles), "the containers have ended", 60)
        for gadget in (probes, classified):
            assert gadget.end() == 0
    check_warnings(probes, bundles)
    for gadget in (probes, classified):
        told = re.search(r"(\d+) runtimes held .* 0 to the deadline; 0 not held", gadget.err)
        assert told is not None, gadget.err
        assert int(told[1]) >= 2 * len(bundles)
    assert calls(probes) == dict.fromkeys(wanted(bundles), times)
    assert packets(classified, egress=1) == dict.fromkeys(bundles, times)


@pytest.mark.needs("musl")
@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_a_library_of_musl(
    tmp_path: Path, built: Path, spec: dict[str, Any], probing: str, runtime: Runtime
) -> None:
    tree = make_tree(tmp_path / "tree", MUSL, "user_functions", built)
    name = "ig-py-late-musl"
    made = {name: bundle(tmp_path / "bundle", spec, tree, PROGRAM, "repeat", str(CALLS))}
    try:
        with tracing(tmp_path / "run", probing, "-c", name) as gadget:
            gadget.wait_running()
            runtime.run(name, made[name])
            wait_for(lambda: wanted(made) <= calls(gadget).keys(), "its calls", 20)
            assert gadget.end() == 0
    finally:
        runtime.remove(name)
    check_warnings(gadget, made)


@pytest.mark.needs("cgroup2", "busybox")
@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_connections_of_a_container_that_starts_late(
    tmp_path: Path, runtime: Runtime, network: Bridge
) -> None:
    """Programs of control groups and of maps of sockets are attached once, for all containers."""
    image = str(image_tar(tmp_path / "gadget", GADGETS / "socket_programs"))
    command = f"echo hello | /bin/busybox nc {network.address} {TCP_PORT}"
    made = make_bundle(tmp_path / "bundle", "/bin/sh", "-c", command)
    name = "ig-py-late-tcp"
    flags = ("--verify-image=false", "-o", "json")
    try:
        with (
            socket.create_server((network.address, TCP_PORT)),
            RunningGadget(tmp_path / "run", image, *flags) as gadget,
        ):
            gadget.wait_running()
            runtime.call("create", "--bundle", str(made), name)
            network.plug(runtime.pid(name), 0)
            runtime.call("start", name)
            wait_for(
                lambda: {"connect", "message"} <= {e["program"] for e in gadget.events()},
                "its connection and its message",
                20,
            )
            assert gadget.end() == 0
    finally:
        runtime.remove(name)


def all_ended(runtime: Runtime, names: dict[str, Path]) -> bool:
    """Remove those that have ended; whether all have."""
    for name in names:
        if Path(runtime.root, name).exists():
            runtime.call("delete", name, check=False)
    return not any(Path(runtime.root, name).exists() for name in names)
