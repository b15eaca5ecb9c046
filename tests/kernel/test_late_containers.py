"""Programs are attached to containers that start while a gadget runs.

``IG_PY_LATE``: how many containers of a kind (20 by default).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.engine import find_program
from support.gadget_format import GADGETS
from support.load import busy_processors
from support.oci_runtime import Runtime
from support.root_gadget import image_tar
from support.root_trees import LAYOUTS, PROGRAM, make_tree
from support.running_gadget import RunningGadget
from support.waiting import deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "uprobe", "ringbuf", "clang", "runc"),
    pytest.mark.timeout(600),
]

CONTAINERS = int(os.environ.get("IG_PY_LATE", "20"))
CALLS = 30
"""Of each function by each container, 20 ms apart."""
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
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("spec")
    subprocess.run([find_program("runc"), "spec"], cwd=directory, check=True, timeout=deadline(30))
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    config["process"] |= {"terminal": False}
    config["linux"].pop("seccomp", None)
    return config


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


def run_all(runtime: Runtime, bundles: dict[str, Path], *, steps: bool = False) -> None:
    """Start them, :data:`AT_ONCE` at the same time; *steps*: as engines do, create and start."""

    def start(name: str) -> None:
        if steps:
            runtime.call("create", "--bundle", str(bundles[name]), name)
            runtime.call("start", name)
        else:
            runtime.run(name, bundles[name])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(start, bundles))


@pytest.fixture
def bundles(
    tmp_path: Path, built: Path, spec: dict[str, Any], runtime: Runtime
) -> Iterator[dict[str, Path]]:
    """Each container has files of its own: no probe is there for another one's sake."""
    found = {}
    for number in range(CONTAINERS):
        layout = LAYOUTS[number % len(LAYOUTS)]
        name = f"ig-py-late-{layout}-{number}"
        tree = make_tree(tmp_path / "trees" / name, layout, "user_functions", built)
        command = (PROGRAM, "repeat", str(CALLS))
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


def test_probes_in_containers_that_start_late(
    tmp_path: Path, probing: str, runtime: Runtime, bundles: dict[str, Path]
) -> None:
    with tracing(tmp_path / "run", probing, "-c", ",".join(bundles)) as gadget:
        gadget.wait_running()
        run_all(runtime, bundles)
        wait_for(lambda: wanted(bundles) <= calls(gadget).keys(), "events of every container", 20)
        assert gadget.end() == 0
    assert calls(gadget).keys() == wanted(bundles)
    check_warnings(gadget, bundles)


@pytest.mark.needs("hold")
def test_held_containers_miss_no_call(
    tmp_path: Path,
    probing: str,
    runtime: Runtime,
    bundles: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also on a machine with too much to do: programs are attached late there."""
    # A guest's own root is a file system whose files cannot be held.
    program = shutil.copy(find_program(runtime.program), str(tmp_path / runtime.program))
    monkeypatch.setenv("RUNTIME_PATH", program)
    held = Runtime(program, runtime.root)
    flags = ("--hold-containers", "-c", ",".join(bundles))
    with busy_processors(), tracing(tmp_path / "run", probing, *flags) as gadget:
        gadget.wait_running()
        run_all(held, bundles, steps=True)
        wait_for(lambda: all_ended(held, bundles), "the containers have ended", 60)
        assert gadget.end() == 0
    check_warnings(gadget, bundles)
    told = re.search(r"(\d+) runtimes held .* 0 to the deadline; 0 not held", gadget.err)
    assert told is not None, gadget.err
    assert int(told[1]) >= 2 * len(bundles)
    assert calls(gadget) == dict.fromkeys(wanted(bundles), CALLS)


def all_ended(runtime: Runtime, names: dict[str, Path]) -> bool:
    """Remove those that have ended; whether all have."""
    for name in names:
        if Path(runtime.root, name).exists():
            runtime.call("delete", name, check=False)
    return not any(Path(runtime.root, name).exists() for name in names)
