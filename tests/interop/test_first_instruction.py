"""Short containers of every runtime: the first execution of each is seen, and under the right
name. ``IG_PY_STARTS`` says how many of each (200 take minutes)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from support.first_exec import trace
from support.root_gadget import image_tar
from support.running_gadget import IG_PY
from support.short_containers import RUNTIMES, needed
from support.waiting import SLOWNESS, deadline

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(3600),
]

STARTS = int(os.environ.get("IG_PY_STARTS", "6"))
ATTEMPTS = 3
LOSS = 3
"""The exit status of ``--fail-on-loss``."""
AT_ONCE = 4 if SLOWNESS == 1 else 2
"""An emulated containerd with more to do cannot ask its shims for their state in time."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_first_execution(runtime: str, image: str) -> None:
    # Not below pytest's directories: sockets have short paths.
    more = ("--fail-on-loss", f"--identify-timeout={deadline(2):g}s")
    for _ in range(ATTEMPTS):
        with needed(runtime), tempfile.TemporaryDirectory(prefix="ig") as path:
            result = trace(IG_PY, image, runtime, STARTS, AT_ONCE, Path(path), more)
        assert (result.missed, result.wrong) == ([], {}), result.messages
        # Other containers that start meanwhile may count as lost: then measure again.
        if result.status != LOSS:
            break
    assert result.status == 0, result.messages
