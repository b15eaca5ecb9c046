"""Signals end any command, at any time, without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import stopped
from support.launcher import install
from support.waiting import deadline, wait_for

from ig_py import cli
from ig_py.cli import _signals

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
EARLY = int(os.environ.get("IG_PY_EARLY_SIGNALS", "20"))
"""How many starts are interrupted; 60 take a minute."""
EARLY_SECONDS = 0.3

SLEEPING = """
import sys, time
from ig_py import cli
from ig_py.__main__ import command

def dispatch(args):
    print("begun", flush=True)
    {work}
    return 0

cli._dispatch = dispatch
command()
"""


def sleeping(work: str, **options: object) -> subprocess.Popen[bytes]:
    """A command that says "begun" and does *work*."""
    code = SLEEPING.format(work=work)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    process = subprocess.Popen([sys.executable, "-P", "-c", code], **pipes)  # type: ignore[call-overload]
    assert isinstance(process, subprocess.Popen)
    return process


def begun(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_command(number: signal.Signals) -> None:
    process = sleeping("time.sleep(60)")
    begun(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=deadline(10))
    assert (process.returncode, err) == (128 + number, b"")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_what_was_ignored_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        process = sleeping("time.sleep(0.5)")
    finally:
        signal.signal(number, before)
    begun(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=deadline(10))
    assert (process.returncode, err) == (0, b"")


def test_a_second_signal_ends_a_command_that_does_not_end() -> None:
    process = sleeping("""
    try:
        print("trying", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep(60)""")
    begun(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"trying\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == b"cleaning\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(deadline(10)) == 130


def test_what_python_cannot_raise_is_raised_again() -> None:
    """A signal while a finaliser runs: Python drops what its handler raises."""
    process = sleeping("""
    class Slow:
        def __del__(self):
            print("finalising", flush=True)
            time.sleep(2)
    Slow()
    time.sleep(60)""")
    begun(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"finalising\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=deadline(20))
    assert (process.returncode, err) == (130, b"")


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stopped_reader_does_not_keep_a_command(
    tmp_path: Path, number: signal.Signals, stream: str
) -> None:
    """One signal ends a command that waits for the reader of either stream."""
    mark = tmp_path / "begun"
    with stopped.pipe(tmp_path) as (write, _read):
        stopped.fill(write)
        work = f"""
    open({str(mark)!r}, "w").close()
    sys.{stream}.write("x" * 100_000)
    sys.{stream}.flush()"""
        other = "stderr" if stream == "stdout" else "stdout"
        code = SLEEPING.format(work=work).replace('print("begun", flush=True)', "pass")
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            **{stream: write, other: subprocess.DEVNULL},  # type: ignore[call-overload]
        )
        wait_for(mark.exists, "it has begun")
        time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(deadline(5)) == 128 + number


def test_an_error_for_a_stopped_reader_can_be_interrupted(tmp_path: Path) -> None:
    mark = tmp_path / "begun"
    with stopped.pipe(tmp_path) as (write, _read):
        stopped.fill(write)
        work = f"""
    from ig_py.cli import _terminal
    from ig_py.errors import UsageError
    _terminal.queue_messages()
    open({str(mark)!r}, "w").close()
    raise UsageError("no")"""
        code = SLEEPING.format(work=work).replace('print("begun", flush=True)', "pass")
        process = subprocess.Popen([sys.executable, "-P", "-c", code], stderr=write)
        wait_for(mark.exists, "it has begun")
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(deadline(5)) == 128 + signal.SIGTERM


def test_interrupted_starts_print_no_traceback(tmp_path: Path) -> None:
    """The command as it is installed, interrupted at moments spread over its start."""
    ig_py = install(tmp_path)
    codes = set()
    for number in range(EARLY):
        process = subprocess.Popen(
            [ig_py, "run", "no-such-image:1", "--pull=never"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        time.sleep(EARLY_SECONDS * number / EARLY)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=deadline(20))
        for word in (b"Traceback", b"KeyboardInterrupt", b"ignored", b"Fatal"):
            assert word not in err, (number, err)
        codes.add(process.returncode)
    # By the default action, as a run that is stopped, or with its error (no root, no image).
    assert codes <= {-signal.SIGINT, 0, 1, 130}
    assert -signal.SIGINT in codes


def test_the_command_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "elsewhere").mkdir()
    ig_py = install(tmp_path / "bin")
    link = tmp_path / "elsewhere" / "ig-py"
    link.symlink_to(ig_py)
    for name in (ig_py, str(link)):
        done = subprocess.run([name, "version"], capture_output=True, text=True, check=True)
        assert done.stdout == "v0.1.0\n"


def test_the_command_where_env_cannot_block_signals(tmp_path: Path) -> None:
    ig_py = install(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "env").write_text("#!/bin/sh\nexit 125\n")
    (other / "env").chmod(0o755)
    environment = {**os.environ, "PATH": f"{other}:{os.environ['PATH']}"}
    done = subprocess.run(
        [ig_py, "version"], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "v0.1.0\n"


def test_only_the_main_thread_has_handlers() -> None:
    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(["--help"])))
    thread.start()
    thread.join(10)
    assert codes == [0]


def test_handlers_are_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in ENDING]
    assert cli.main(["--help"]) == 0
    assert [signal.getsignal(number) for number in ENDING] == before
    assert not _signals.received()
