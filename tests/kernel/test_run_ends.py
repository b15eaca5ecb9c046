"""Every signal in every phase of a run, and readers that stopped: it ends, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import costly, stopped
from support.root_gadget import image_tar
from support.running_gadget import IG_PY, RUNNING, RunningGadget
from support.tiny_gadget import write_gadget
from support.waiting import deadline, wait_for

from ig_py.oci import media

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(300),
]

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
SECONDS = 3
"""The promise is one second; a machine that does other things needs more."""


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A TMPDIR that must be empty in the end."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


def flags(image: str) -> list[str]:
    return [image, "--verify-image=false", "--host", "-o", "json"]


def ended(process: subprocess.Popen[bytes], number: int) -> int:
    """Send the signal; the exit code, within the promised time."""
    process.send_signal(number)
    try:
        return process.wait(deadline(SECONDS))
    finally:
        process.kill()
        process.wait()


def executions(count: int) -> None:
    for _ in range(count):
        subprocess.run(["/bin/true"], check=True)


@pytest.mark.parametrize("number", ENDING)
def test_while_it_starts(tmp_path: Path, temporary: Path, image: str, number: int) -> None:
    for step, delay in enumerate((0.02, 0.1, 0.3)):
        with RunningGadget(tmp_path / str(step), *flags(image)) as run:
            time.sleep(delay)
            # Before its handlers are in place it dies as any other process does.
            assert ended(run.process, number) in (0, 128 + number, -number)
            assert "Traceback" not in run.err
            assert "Error" not in run.err


@pytest.mark.parametrize("number", ENDING)
def test_while_it_compiles(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    slow, pids = tmp_path / "slow-clang", tmp_path / "pids"
    slow.write_text(
        '#!/bin/sh\ntest "$1" = --version && exec echo clang version 14.0.0\n'
        f'echo x >"$TMPDIR/left"\necho $$ >>{pids}\nexec sleep 300\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("CLANG", str(slow))
    monkeypatch.setenv("LLVM_STRIP", "/bin/true")
    with RunningGadget(tmp_path / "run", str(write_gadget(tmp_path / "g"))) as run:
        wait_for(lambda: pids.exists() and pids.read_text().split(), "the compiler runs")
        assert list(temporary.iterdir())
        assert ended(run.process, number) == 0
        assert "Traceback" not in run.err
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the compiler is gone")


@pytest.mark.parametrize("number", ENDING)
def test_while_it_pulls(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A registry that takes the connection and never answers."""
    store = tmp_path / "store"
    monkeypatch.setenv("IG_PY_STORE", str(store))
    with socket.create_server(("127.0.0.1", 0)) as server:
        connected = threading.Event()

        def accept() -> None:
            while True:
                try:
                    taken.append(server.accept())
                except OSError:
                    return
                connected.set()

        taken: list[object] = []
        threading.Thread(target=accept, daemon=True).start()
        name = f"127.0.0.1:{server.getsockname()[1]}/x/y:1"
        arguments = (name, "--verify-image=false", f"--insecure-registries={name.split('/')[0]}")
        with RunningGadget(tmp_path / "run", *arguments) as run:
            assert connected.wait(deadline(60)), run.err
            assert ended(run.process, number) == 0
            assert "Traceback" not in run.err
        server.shutdown(socket.SHUT_RDWR)
    assert not list((store / "ingest").glob("*"))


@pytest.mark.parametrize("number", ENDING)
def test_while_the_verifier_works(tmp_path: Path, temporary: Path, number: int) -> None:
    """A small image of programs that the verifier takes minutes for."""
    made = costly.Layout(tmp_path / "layout")
    elf = made.blob(costly.looping_programs(1000, 300_000), media.EBPF_LAYER)
    made.write([costly.named(made.index([made.manifest([elf])]), "ghcr.io/x/y:1")])
    with RunningGadget(tmp_path / "run", str(made.root), "--verify-image=false") as run:

        def loading() -> bool:
            spent = Path(f"/proc/{run.process.pid}/stat").read_text().rpartition(")")[2].split()
            # stime, in ticks (proc(5)): only the verifier takes so much.
            return int(spent[12]) > 0.4 * os.sysconf("SC_CLK_TCK")

        wait_for(loading, "the verifier works")
        assert ended(run.process, number) == 0
        assert "Traceback" not in run.err
        assert "Error" not in run.err


@pytest.mark.parametrize("number", ENDING)
def test_while_it_runs(tmp_path: Path, temporary: Path, image: str, number: int) -> None:
    with RunningGadget(tmp_path, *flags(image)) as run:
        run.wait_running()
        executions(3)
        assert ended(run.process, number) == 0
        emitted, lost = run.account()
        assert (emitted, lost) == (len(run.events()), 0)
        assert emitted >= 3


@pytest.mark.parametrize("number", ENDING)
def test_while_it_stops(tmp_path: Path, temporary: Path, image: str, number: int) -> None:
    """A second signal while the first one's end waits for the reader of standard output."""
    with stopped.pipe(tmp_path) as (write, _), (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen([IG_PY, "run", *flags(image), "-v"], stdout=write, stderr=err)
        wait_for(lambda: RUNNING in (tmp_path / "err").read_text(), "it runs")
        stopped.fill(write)
        executions(3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        # The first one may have ended it already.
        assert ended(process, number) in (0, 1)
    assert "Traceback" not in (tmp_path / "err").read_text()


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("kind", stopped.KINDS)
def test_a_stopped_reader_of_standard_output(
    tmp_path: Path, temporary: Path, image: str, kind: str, number: int
) -> None:
    """The account says exactly how many lines its reader can read."""
    out, err = b"", tmp_path / "err"
    with stopped.KINDS[kind](tmp_path) as (write, read), err.open("wb") as file:  # type: ignore[attr-defined]
        if kind == "terminal":
            write = os.dup(write)
        process = subprocess.Popen([IG_PY, "run", *flags(image), "-v"], stdout=write, stderr=file)
        wait_for(lambda: RUNNING in err.read_text(), "it runs")
        executions(200)
        assert ended(process, number) == 0
        os.set_blocking(read, False)
        try:
            while chunk := os.read(read, 1 << 16):
                out += chunk
        except BlockingIOError:
            pass
    words = err.read_text().splitlines()[-1].split()
    emitted, lost = int(words[1]), int(words[4])
    assert emitted == out.count(b"\n")
    assert emitted + lost >= 200
    assert lost > 0
    for line in out.splitlines()[:emitted]:
        json.loads(line)


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("both", [False, True], ids=["stderr", "both one pipe"])
def test_a_stopped_reader_of_standard_error(
    tmp_path: Path, temporary: Path, image: str, both: bool, number: int
) -> None:
    with stopped.pipe(tmp_path) as (write, read):
        process = subprocess.Popen(
            [IG_PY, "run", *flags(image), "-v", "--buffer-size", "64K"],
            stdout=write if both else subprocess.DEVNULL,
            stderr=write,
        )
        said = b""
        while RUNNING.encode() not in said:
            said += os.read(read, 1 << 16)
        stopped.fill(write)
        # Many are lost, which it says every second.
        executions(300)
        time.sleep(1.5)
        assert ended(process, number) == 0


def test_a_run_sweeps_what_a_killed_one_left(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    slow, pids = tmp_path / "slow-clang", tmp_path / "pids"
    slow.write_text(
        '#!/bin/sh\ntest "$1" = --version && exec echo clang version 14.0.0\n'
        f'echo x >"$TMPDIR/left"\necho $$ >>{pids}\nexec sleep 300\n'
    )
    slow.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("CLANG", str(slow))
        patch.setenv("LLVM_STRIP", "/bin/true")
        with RunningGadget(tmp_path / "killed", str(write_gadget(tmp_path / "g"))) as run:
            wait_for(lambda: pids.exists() and pids.read_text().split(), "the compiler runs")
            run.process.kill()
            run.process.wait()
    for pid in pids.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    assert list(temporary.iterdir())
    with RunningGadget(tmp_path / "next", *flags(image)) as run:
        run.wait_running()
        assert list(temporary.iterdir()) == []
        assert run.end() == 0
