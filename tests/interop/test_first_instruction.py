"""Short containers of every runtime: the first execution of each is seen, and under the right
name. ``IG_PY_STARTS`` says how many of each (200 take minutes)."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
from support.first_exec import trace
from support.processes import StartError
from support.root_gadget import image_tar
from support.short_containers import RUNTIMES, why_not

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(3600),
]

STARTS = int(os.environ.get("IG_PY_STARTS", "6"))
AT_ONCE = 4
IG_PY = str(Path(sys.executable).with_name("ig-py"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_first_execution(runtime: str, image: str) -> None:
    if why := why_not(runtime):
        pytest.skip(why)
    # Not below pytest's directories: sockets have short paths.
    with tempfile.TemporaryDirectory(prefix="ig") as path:
        more = ("--fail-on-loss",)
        try:
            result = trace(IG_PY, image, runtime, STARTS, AT_ONCE, Path(path), more)
        except StartError as error:
            pytest.skip(f"no engine of our own: {error}")
    assert (result.missed, result.wrong) == ([], {}), result.messages
    assert result.status == 0, result.messages
