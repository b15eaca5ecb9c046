"""Too few descriptors: the error says so, whatever could not be opened."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import pytest

from ig_py import cli
from ig_py.errors import KernelError
from ig_py.host import descriptors
from ig_py.runtime.run import as_error


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The soft and the hard limit; each change is added."""
    known = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: known[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: known.append(given))
    return known


def test_the_soft_limit_is_raised(limits: list[tuple[int, int]]) -> None:
    assert descriptors.raise_limit() == 4096
    descriptors.require("running gadget x")
    assert limits == [(1024, 4096), (4096, 4096)]


def test_a_limit_that_is_too_low(limits: list[tuple[int, int]]) -> None:
    limits.append((24, 24))
    with pytest.raises(KernelError, match="running gadget x: only 24 files may be open") as caught:
        descriptors.require("running gadget x")
    assert "ulimit -n" in caught.value.remedy


def test_no_limit_at_all(limits: list[tuple[int, int]]) -> None:
    limits.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    descriptors.require("running gadget x")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_a_file_that_cannot_be_opened_any_more(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(code, os.strerror(code), "/x/target_sync.py")
    known = as_error(error)
    assert isinstance(known, KernelError)
    assert "ulimit -n" in known.remedy

    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert cli.main(["version"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(
        f"Error: opening /x/target_sync.py: {os.strerror(code)}: raise the limit"
    )
    assert "internal error" not in told


@pytest.mark.parametrize("limit", [5, 8])
def test_a_module_that_cannot_be_imported(limit: int) -> None:
    script = (
        "import resource, sys; from ig_py.cli import main; import ig_py.cli._terminal;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}));"
        "held = []\n"
        "try:\n"
        "    while True: held.append(open('/dev/null'))\n"
        "except OSError: pass\n"
        "import traceback\n"
        "sys.exit(main(['image', 'list']))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "internal error" not in done.stderr
