"""A user's FUSE file system whose server never answers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import features
from support.waiting import deadline

# A mount that answers nothing, not even FUSE_INIT: whoever asks it waits until it is aborted, which
# closing /dev/fuse does (Documentation/filesystems/fuse.rst).
MOUNT = """
import ctypes, os, sys
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if ctypes.CDLL(None, use_errno=True).mount(b"stranger", sys.argv[1].encode(), b"fuse", 0, options):
    raise OSError(ctypes.get_errno(), "mounting FUSE")
from ig_py.host.safe_open import FileRefused, Links, open_directory_beneath, read_beneath
def told(root, path, **conditions):
    try:
        print(read_beneath(root, path, most=100, **conditions))
    except FileRefused as error:
        print(error.refusal, "|", error.reason)
"""


def run(place: Path, script: str) -> tuple[list[str], float]:
    start = time.monotonic()
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "--propagation",
            "private",
            sys.executable,
            "-P",
            "-c",
            MOUNT + script,
            place,
        ],
        capture_output=True,
        text=True,
        timeout=deadline(30),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), time.monotonic() - start


@pytest.fixture
def place(tmp_path: Path) -> Path:
    features.need("fuse")
    place = tmp_path / "run/user/1000/crun"
    place.mkdir(parents=True)
    return place


def test_with_one_mount_the_server_is_asked_nothing(place: Path) -> None:
    script = """
user = os.path.dirname(sys.argv[1])
told(user, "crun/x/status", owners={1000}, deadline_s=3600)
told(sys.argv[1], "x/status", owners={1000}, deadline_s=3600)
told(sys.argv[1], "x/status", owners={0}, deadline_s=3600)
"""
    lines, _ = run(place, script)
    assert lines[0].startswith("path | its path leaves the directory, or its mount")
    assert lines[1:] == ["file system | its file system is a user's (FUSE)"] * 2


def test_across_mounts_it_is_waited_for_with_a_bound(place: Path) -> None:
    script = """
root = sys.argv[1].removesuffix("/run/user/1000/crun")
for _ in range(3):
    told(root, "run/user/1000/crun/x", owners={1000}, links=Links.IN_ROOT, one_mount=False,
         deadline_s=0.2)
open(root + "/mine", "w").write("content")
told(root, "mine", owners={0}, links=Links.IN_ROOT, one_mount=False, deadline_s=20)
"""
    lines, took = run(place, script)
    assert lines == [
        "slow | its file system did not answer in 0.2 s",
        "slow | its file system did not answer in 0.2 s",
        "slow | earlier files of the same owners still do not answer",
        "b'content'",
    ]
    # The threads that still wait do not keep the process.
    assert took < deadline(20)
