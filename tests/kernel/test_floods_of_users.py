"""A user floods the notifications that containers are found by."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime
from support.other_user import OtherUser, other_user
from support.python_container import PYTHON
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "busybox", "runc"),
    pytest.mark.timeout(300),
]

OWN = f"ig-py-{os.getpid()}"

# More events of inotify than its queue holds (fs.inotify.max_queued_events, 16384), in a second.
STATES = """
import os, sys
base = sys.argv[1] + "/crun/"
names = [f"{base}{n}/status" for n in range(200)]
for name in names:
    os.makedirs(os.path.dirname(name), exist_ok=True)
print("begins", flush=True)
while True:
    for name in names:
        with open(name, "w") as file:
            file.write('{"pid": 1, "bundle": "/x"}')
        os.rename(name, name + "x")
"""


@pytest.fixture
def user() -> Iterator[OtherUser]:
    with other_user() as found:
        yield found


def test_state_files_that_are_written_for_ever(tmp_path: Path, user: OtherUser) -> None:
    image = str(image_tar(tmp_path / "image"))
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    runtime = Runtime("runc", str(tmp_path / "bundle" / "state"))
    wanted = [f"{OWN}-flooded-{number}" for number in range(12)]
    flags = ("--verify-image=false", "-o", "json", "-c", ",".join(wanted))
    with (
        user.running(PYTHON, "-c", STATES, str(user.runtime)) as flood,
        RunningGadget(tmp_path / "run", image, *flags) as gadget,
    ):
        assert flood.stdout is not None and flood.stdout.readline() == b"begins\n"
        gadget.wait_running()
        for name in wanted:
            runtime.call("run", "--bundle", str(bundle), name)
        wait_for(lambda: gadget.out.count("\n") >= len(wanted), "all events", 20)
        assert gadget.end() == 0, gadget.err
    assert gadget.executions() == [(name, "/bin/echo out") for name in wanted]
    assert gadget.account() == (len(wanted), 0)
