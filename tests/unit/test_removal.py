"""Trees of directories that others made are removed whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ig_py.host.removal import remove_tree
from ig_py.host.scratch import scratch_dir


def make_deep(directory: Path, depth: int) -> None:
    """Directories in directories, whose path is longer than any system call takes (PATH_MAX)."""
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 200, dir_fd=fd)
        os.symlink("/etc", "link", dir_fd=fd)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def test_directories_deeper_than_calls_can_be(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    make_deep(tree, 3 * sys.getrecursionlimit())
    remove_tree(tree)
    assert not tree.exists()


def test_what_a_build_leaves_in_a_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with scratch_dir() as path:
        make_deep(path, 3 * sys.getrecursionlimit())
    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    for place in (tree, tree / "a", tree / "a/b"):
        (place / "link").symlink_to(outside)
        (place / "file").write_text("x")
    os.mkfifo(tree / "a/fifo")
    remove_tree("tree", dir_fd=os.open(tmp_path, os.O_RDONLY))
    assert [p.name for p in tmp_path.iterdir()] == ["outside"]
    assert (outside / "file").exists()
    (tmp_path / "link").symlink_to(outside)
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "absent")
    assert (outside / "file").exists()
