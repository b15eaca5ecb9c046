"""Private mounts of tests are invisible to other processes and end with the block."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from support import mounts

pytestmark = pytest.mark.needs("root")


def seen_by_children(place: Path) -> bool:
    lines = subprocess.run(["cat", "/proc/self/mounts"], capture_output=True, text=True, check=True)
    return str(place) in lines.stdout


def test_a_private_mount_ends_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "place").mkdir()
    waiting = threading.Event()
    # A thread that lives on keeps the process's file system attributes shared.
    thread = threading.Thread(target=waiting.wait, daemon=True)
    with mounts.private():
        mounts.mount("tmpfs", tmp_path / "place")
        thread.start()
        (tmp_path / "place/file").touch()
        assert len(mounts.below(tmp_path)) == 1
        assert seen_by_children(tmp_path)
    waiting.set()
    thread.join()
    assert not mounts.below(tmp_path)
    assert not seen_by_children(tmp_path)
    assert Path.cwd() == tmp_path
    assert list((tmp_path / "place").iterdir()) == []


def test_mounted_and_unmounted() -> None:
    before = {place: mounts.below(place) for place in (mounts.BPFFS, mounts.TRACEFS)}
    with mounts.tracing_unmounted():
        assert not (mounts.TRACEFS / "events").exists()
        assert not (mounts.DEBUGFS / "tracing").exists()
    assert {place: mounts.below(place) for place in before} == before


@pytest.mark.needs("bpf", "tracepoint")
def test_tracing_is_mounted_where_the_kernel_has_it() -> None:
    with mounts.tracing_mounted():
        assert (mounts.TRACEFS / "events").is_dir()
        assert mounts.below(mounts.BPFFS)[-1].split()[2] == "bpf"
        (mounts.BPFFS / "ig-py-test").mkdir()
    assert not (mounts.BPFFS / "ig-py-test").exists()
