"""A user floods the notifications that containers are found by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime
from support.other_user import OtherUser
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

# Containers of a user's own, which hold descriptors of the tracer.
CONTAINERS = """
import ctypes, json, os, sys, time
libc = ctypes.CDLL(None)
base = sys.argv[1] + "/crun/"
for number in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        libc.prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
        libc.unshare(0x10020000)  # CLONE_NEWUSER | CLONE_NEWNS
        time.sleep(300)
        os._exit(0)
    own = os.readlink("/proc/self/ns/mnt")
    while os.readlink(f"/proc/{pid}/ns/mnt") == own:
        time.sleep(0.001)
    start = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19])
    os.makedirs(f"{base}{number}")
    with open(f"{base}{number}/status", "w") as file:
        json.dump({"pid": pid, "process-start-time": start, "bundle": "/x"}, file)
print("begins", flush=True)
time.sleep(300)
"""
OF_USER = 200
DESCRIPTORS = 400


def start_all(runtime: Runtime, bundle: Path, names: list[str], gadget: RunningGadget) -> None:
    gadget.wait_running()
    for name in names:
        runtime.call("run", "--bundle", str(bundle), name)
    wait_for(lambda: gadget.out.count("\n") >= len(names), "all events", 20)
    assert gadget.end() == 0, gadget.err
    assert gadget.executions() == [(name, "/bin/echo out") for name in names]
    assert gadget.account() == (len(names), 0)


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
        start_all(runtime, bundle, wanted, gadget)


def test_a_users_containers_leave_descriptors_for_roots(tmp_path: Path, user: OtherUser) -> None:
    """Each container takes three, and the user has more than half as many."""
    image = str(image_tar(tmp_path / "image"))
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    runtime = Runtime("runc", str(tmp_path / "bundle" / "state"))
    wanted = [f"{OWN}-left-{number}" for number in range(8)]
    flags = ("--verify-image=false", "-o", "json", "-c", ",".join(wanted))
    gadget = RunningGadget(tmp_path / "run", image, *flags)
    gadget.argv = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", *gadget.argv]
    with (
        user.running(PYTHON, "-c", CONTAINERS, str(user.runtime), str(OF_USER)) as owner,
        gadget,
    ):
        assert owner.stdout is not None and owner.stdout.readline() == b"begins\n"
        start_all(runtime, bundle, wanted, gadget)
    assert "Too many open files" not in gadget.err
    assert "users who have too many" in gadget.err
