"""Names of programs, directories and arguments of a user without rights act on no terminal."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from support.hostile_text import HOSTILE, MARK, acting
from support.other_user import OtherUser
from support.root_gadget import image_tar
from support.running_gadget import IG_PY, RUNNING
from support.waiting import deadline

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "busybox"),
    pytest.mark.timeout(300),
]

NAME = MARK + HOSTILE.replace("\n", "")
COMM = f"\x1b[2J\x9b\u202e{MARK}"
"""The kernel keeps 15 bytes of it."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


def executed(user: OtherUser) -> None:
    """The user executes programs with such names, in a directory and with arguments alike."""
    directory = user.runtime / NAME
    if not directory.exists():
        directory.mkdir()
        busybox = shutil.which("busybox")
        assert busybox
        for name in (COMM, NAME):
            shutil.copy(busybox, directory / name)
    for name in (COMM, NAME):
        subprocess.run(
            ["true", NAME, HOSTILE],
            executable=str(directory / name),
            user=user.uid,
            group=user.uid,
            extra_groups=[],
            cwd=directory,
            check=True,
        )


@pytest.mark.parametrize("mode", ["columns", "json", "jsonpretty", "yaml", "text"])
def test_live_output_on_a_terminal(image: str, user: OtherUser, mode: str) -> None:
    argv = [IG_PY, "run", image, "--verify-image=false", "--host", "-v", "--paths"]
    if mode == "text":
        # A mode that only this gadget has: its author says so.
        argv += ["--annotate=exec:cli.supported-output-modes=own", "-o", "own"]
    else:
        argv += ["-o", mode]
    if mode == "columns":
        # The whole texts, below the names that an image's author gives to columns.
        names = "proc.comm,args,cwd,file,exepath"
        argv += [f"--fields={names}"]
        argv += [f"--annotate=exec.{name}:columns.width=200" for name in names.split(",")]
        argv += [f"--annotate=exec.args:columns.alias={NAME}"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"}
    )
    os.close(theirs)
    shown = b""
    end = time.monotonic() + deadline(60)
    try:
        done = asked = False
        while not done:
            assert time.monotonic() < end, shown[-2000:]
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    shown += os.read(ours, 65536)
                except OSError:
                    done = True
            if RUNNING.encode() in shown and not asked:
                executed(user)
                if shown.count(b"running") and shown.count(MARK.encode()) >= 8:
                    asked = True
                    process.send_signal(signal.SIGINT)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(ours)
    assert acting(shown) == [], [
        shown[max(0, i - 100) : i + 100] for i, b in enumerate(shown) if b == 27
    ][:3]
    assert shown.count(MARK.encode()) >= 8
