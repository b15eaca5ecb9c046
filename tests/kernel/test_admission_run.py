"""``ig-py run`` without any engine: containers are seen from their first execution on."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.oci_bundle import make_bundle, run_bundle
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "busybox", "runc"),
    pytest.mark.timeout(600),
]

OWN = f"ig-py-{os.getpid()}"
"""Other runs of these tests, on the same machine, have containers of their own."""
BURST = 12
"""Containers with one short command, four at a time."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


def tracing(directory: Path, image: str, *arguments: str) -> RunningGadget:
    return RunningGadget(
        directory,
        image,
        "--verify-image=false",
        *("-o", "json"),
        *arguments,
    )


def only(names: list[str]) -> tuple[str, str]:
    """Other tests may run containers on this machine."""
    return "-c", ",".join(names)


def test_the_first_execution_of_each_container(tmp_path: Path, image: str) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/sh", "-c", "/bin/true; exec /bin/echo out")
    names = [f"{OWN}-burst-{number}" for number in range(BURST)]
    with tracing(tmp_path / "run", image, *only(names)) as gadget:
        gadget.wait_running()
        subprocess.run(["unshare", "--mount", "/bin/true"], check=True)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda n: run_bundle(bundle, n), names)) == ["out\n"] * BURST
        subprocess.run(["unshare", "--mount", "/bin/true"], check=True)
        wait_for(lambda: gadget.out.count("\n") >= 3 * BURST, "all events", 20)
        assert gadget.end() == 0
    found: dict[str, list[str]] = {}
    for name, args in gadget.executions():
        found.setdefault(name, []).append(args)
    wanted = ["/bin/sh -c /bin/true; exec /bin/echo out", "/bin/true", "/bin/echo out"]
    assert found == dict.fromkeys(names, wanted)
    assert gadget.account() == (3 * BURST, 0)
    runtimes = {e["runtime"]["runtimeName"] for e in gadget.events()}
    assert runtimes == {"runc"}


@pytest.mark.parametrize("runtime", ["runc", pytest.param("crun", marks=pytest.mark.needs("crun"))])
def test_a_stopped_tracer_delays_no_container(tmp_path: Path, image: str, runtime: str) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/sh", "-c", "/bin/true; exec /bin/echo out")
    names = [f"{OWN}-stopped-{number}" for number in range(4)]
    with tracing(tmp_path / "run", image, *only(names)) as gadget:
        gadget.wait_running()
        gadget.process.send_signal(signal.SIGSTOP)
        try:
            for name in names:
                # Numbers of namespaces are used again at once.
                subprocess.run(["unshare", "--mount", "/bin/true"], check=True)
                assert run_bundle(bundle, name, runtime=runtime) == "out\n"
        finally:
            gadget.process.send_signal(signal.SIGCONT)
        wait_for(lambda: gadget.out.count("\n") >= 3 * len(names), "all events", 20)
        assert gadget.end() == 0
    found = gadget.executions()
    wanted = ["/bin/sh -c /bin/true; exec /bin/echo out", "/bin/true", "/bin/echo out"]
    assert sorted(found) == sorted((name, args) for name in names for args in wanted)
    assert gadget.account() == (3 * len(names), 0)


def test_a_flood_of_namespaces_hides_no_container(tmp_path: Path, image: str) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    names = [f"{OWN}-flooded-{number}" for number in range(4)]
    loop = "while :; do unshare --mount /bin/true; done"
    with tracing(tmp_path / "run", image, *only(names)) as gadget:
        gadget.wait_running()
        flood = [subprocess.Popen(["sh", "-c", loop]) for _ in range(2)]
        try:
            for name in names:
                run_bundle(bundle, name)
        finally:
            for process in flood:
                process.kill()
                process.wait()
        wait_for(lambda: gadget.out.count("\n") >= len(names), "all events", 20)
        assert gadget.end() == 0
    assert gadget.executions() == [(name, "/bin/echo out") for name in names]
    assert gadget.account() == (len(names), 0)


def test_only_the_selected_one(tmp_path: Path, image: str) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/sh", "-c", "/bin/true; /bin/true")
    with tracing(tmp_path / "run", image, "-c", f"{OWN}-wanted") as gadget:
        gadget.wait_running()
        for name in (f"{OWN}-noise", f"{OWN}-wanted", f"{OWN}-noise2"):
            run_bundle(bundle, name)
        wait_for(lambda: gadget.out.count("\n") >= 3, "its events", 20)
        assert gadget.end() == 0
    assert {name for name, _ in gadget.executions()} == {f"{OWN}-wanted"}
    assert gadget.account() == (3, 0)


def test_a_container_has_its_name_with_host_too(tmp_path: Path, image: str) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "from inside")
    with tracing(tmp_path / "run", image, "--host") as gadget:
        gadget.wait_running()
        subprocess.run(["unshare", "--mount", "/bin/echo", "from a namespace"], check=True)
        run_bundle(bundle, f"{OWN}-inside")
        wait_for(lambda: "from\u00a0inside" in gadget.out or "from inside" in gadget.out, "it", 20)
        assert gadget.end() == 0
    found = gadget.executions()
    assert (f"{OWN}-inside", "/bin/echo from inside") in found
    assert ("", "/bin/echo from a namespace") in found
    # Runtimes themselves are of the host.
    assert any(name == "" and f"{OWN}-inside" in args for name, args in found)
