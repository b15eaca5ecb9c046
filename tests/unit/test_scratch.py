"""Temporary directories and files: gone at the end, and swept after a kill, but only our own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import deadline, wait_for

from ig_py.errors import BuildError, UsageError
from ig_py.host import scratch
from ig_py.host.scratch import MARK, PREFIX, new_file, scratch_dir, sweep
from ig_py.oci.trust import privatekeys
from ig_py.toolchain import process

HOLDING = """
import sys, time
from pathlib import Path
from ig_py.host import scratch
with scratch.scratch_dir() as path, scratch.new_file(Path(sys.argv[1]), 0o600) as file:
    (path / "inside").mkdir()
    (path / "inside" / "file").write_text("x")
    file.write(b"half")
    file.flush()
    print(path, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


@pytest.fixture
def holder(temporary: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a temporary directory, and a file that is to be ``tmp_path/target``."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDING, str(tmp_path / "target")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert Path(process.stdout.readline().strip()).parent == temporary
    yield process
    process.kill()
    process.wait()


def test_a_directory_is_gone_at_the_end(temporary: Path) -> None:
    with scratch_dir() as path:
        assert path.parent == temporary
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "file").touch()
    with pytest.raises(ZeroDivisionError), scratch_dir() as path:
        raise ZeroDivisionError
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_swept(
    holder: subprocess.Popen[str], temporary: Path, tmp_path: Path
) -> None:
    def begin() -> None:
        """What the next command does."""
        sweep()
        with new_file(tmp_path / "target", 0o600) as file:
            file.write(b"whole")

    def files() -> list[str]:
        return [path.name for path in tmp_path.iterdir() if MARK in path.name]

    begin()
    # Its process lives.
    assert len(list(temporary.iterdir())) == 1
    assert len(files()) == 1
    holder.kill()
    holder.wait(deadline(10))
    begin()
    assert list(temporary.iterdir()) == []
    assert files() == []
    assert (tmp_path / "target").read_bytes() == b"whole"


def test_links_and_others_are_left_alone(temporary: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").touch()
    (temporary / f"{PREFIX}link").symlink_to(victim)
    (temporary / f"{PREFIX}file").touch()
    (temporary / "ig-py-other").mkdir()
    (tmp_path / f".target{MARK}link").symlink_to(victim / "file")
    os.mkfifo(tmp_path / f".target{MARK}fifo")
    sweep()
    with new_file(tmp_path / "target", 0o600):
        pass
    assert {path.name for path in temporary.iterdir()} == {
        f"{PREFIX}link", f"{PREFIX}file", "ig-py-other",
    }  # fmt: skip
    assert (victim / "file").exists()
    assert {path.name for path in tmp_path.iterdir() if MARK in path.name} == {
        f".target{MARK}link", f".target{MARK}fifo",
    }  # fmt: skip


def test_links_inside_a_leftover_are_not_followed(temporary: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").touch()
    left = temporary / f"{PREFIX}0"
    left.mkdir()
    (left / "link").symlink_to(victim)
    sweep()
    assert not left.exists()
    assert (victim / "file").exists()


@pytest.mark.needs("root")
def test_what_another_user_owns_is_left_alone(temporary: Path) -> None:
    left = temporary / f"{PREFIX}0"
    left.mkdir()
    os.chown(left, 12345, 12345)
    sweep()
    assert left.exists()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with new_file(target, 0o640) as file:
        file.write(b"1")
        assert not target.exists()
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"1", 0o640)
    with pytest.raises(ZeroDivisionError), new_file(target, 0o600) as file:
        raise ZeroDivisionError
    with pytest.raises(FileExistsError), new_file(target, 0o600, replace=False) as file:
        file.write(b"2")
    assert target.read_bytes() == b"1"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, swept = scratch._locked, []

    def locked(fd: int) -> bool:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        return real(fd)

    monkeypatch.setattr(scratch, "_locked", locked)
    with new_file(tmp_path / "target", 0o600) as file:
        file.write(b"x")
    assert (tmp_path / "target").read_bytes() == b"x"
    assert len(swept) == 1


def test_key_pairs_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = str(tmp_path / "k")

    real = scratch._name
    left = []

    def interrupted(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        left.pop()
        if not left:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scratch, "_name", interrupted)
        for count in (1, 2):
            left = [0] * count
            with pytest.raises(KeyboardInterrupt):
                privatekeys.write_pair(prefix, "")
            assert list(tmp_path.iterdir()) == []
    private, public = privatekeys.write_pair(prefix, "")
    assert set(tmp_path.iterdir()) == {private, public}
    before = private.read_bytes()
    public.unlink()
    with pytest.raises(UsageError, match="exists already"):
        privatekeys.write_pair(prefix, "")
    assert private.read_bytes() == before


def test_tools_have_temporary_files_of_their_own(temporary: Path) -> None:
    said = process.run(["sh", "-c", 'echo x >"$TMPDIR/left"; echo "$TMPDIR"'], "trying")
    assert Path(said.strip()).parent == temporary
    assert list(temporary.iterdir()) == []


def test_no_tool_begins_while_others_are_ended() -> None:
    with process.ending(), pytest.raises(BuildError, match="trying: interrupted"):
        process.run(["true"], "trying")
    assert process.run(["echo", "x"], "trying") == "x\n"


def ended(pid: str) -> bool:
    """Whether the process is gone, or waits for its parent to collect its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except FileNotFoundError:
        return True


def test_a_second_signal_leaves_nothing_either(temporary: Path) -> None:
    code = """
from ig_py import cli
from ig_py.__main__ import command
from ig_py.toolchain import process

def dispatch(args):
    try:
        process.run(["sh", "-c", 'echo $$ $TMPDIR >/proc/self/fd/FD; exec sleep 60'], "trying")
    finally:
        import time
        time.sleep(60)

import subprocess
real = subprocess.Popen
subprocess.Popen = lambda *a, **k: real(*a, **k, pass_fds=(FD,))
cli._dispatch = dispatch
command()
"""
    read, write = os.pipe()
    code = code.replace("FD", str(write))
    running = subprocess.Popen([sys.executable, "-P", "-c", code], pass_fds=(write,))
    pid, directory = os.read(read, 4096).decode().split()
    assert Path(directory).is_dir()
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGINT)
    running.wait(deadline(10))
    assert list(temporary.iterdir()) == []
    wait_for(lambda: ended(pid), "the child has ended", 10)
    os.close(read)
    os.close(write)
