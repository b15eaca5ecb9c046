"""Arrays under ``-c``: rows of selected containers only, also of those that start meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import terminal
from support.oci_bundle import make_bundle, run_bundle
from support.oci_runtime import Runtime
from support.processes import output
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs(
        "root", "bpf", "btf", "raw_tracepoint", "tracepoint", "clang", "busybox", "runc"
    ),
    pytest.mark.timeout(600),
]

GADGET = Path(__file__).parents[1] / "gadgets" / "count_syscalls"
OWN = f"ig-py-{os.getpid()}-array"
STRANGERS = 20
CALLS = 30
NUMBERED = "/bin/busybox readlink /proc/self/ns/mnt"
SCRIPT = f"i=0; while [ $i -lt {CALLS} ]; do /bin/mkdir /proc/none; i=$((i+1)); done 2>/dev/null"


GRACE = 5
"""Seconds for which the number of a container's namespace is not given to another one."""


STRANGER = """
import ctypes, os, resource, subprocess, sys

wanted, script = sys.argv[1:]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
libc = ctypes.CDLL(None, use_errno=True)
for _ in range(min(most - 64, 16384)):
    # The kernel gives out the lowest number that is free: those before are kept.
    kept = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    if libc.unshare(0x20000):
        raise OSError(ctypes.get_errno(), "unshare")
    if os.readlink("/proc/self/ns/mnt") == wanted:
        raise SystemExit(subprocess.run(["sh", "-c", script]).returncode & 0)
raise SystemExit(9)
"""
"""A process whose mount namespace gets a number that was another one's, and that calls as
containers do."""


def mount_namespace(printed: str) -> str:
    """What a container of :data:`NUMBERED` printed of itself."""
    (line,) = [line for line in printed.splitlines() if line.startswith("mnt:")]
    return line


def counted(out: str) -> dict[str, int]:
    """Directories made, by container, of what is shown."""
    calls: Counter[str] = Counter()
    for line in out.splitlines():
        for row in json.loads(line):
            if row["comm"] == "mkdir" and row["syscall"] == "SYS_MKDIR":
                calls[row["runtime"]["containerName"]] += row["calls"]
    return calls


def running(bundle: Path) -> set[str]:
    """Containers of *bundle* that run their command."""
    listed = json.loads(output(Runtime("runc", str(bundle / "state")).argv("list", "-f", "json")))
    return {c["id"] for c in listed or [] if c["status"] == "running"}


@pytest.mark.parametrize(
    ("interval", "at_once", "seconds"),
    [("1ms", 4, 1), ("100ms", 4, 1), pytest.param("1h", STRANGERS + 3, 12, id="only at the end")],
)
def test_rows_of_strangers_are_never_shown(
    tmp_path: Path, interval: str, at_once: int, seconds: int
) -> None:
    # The kernel gives the number of a namespace that has ended to the next one: containers live
    # until their rows are fetched.
    bundle = make_bundle(tmp_path / "bundle", "/bin/sh", "-c", f"{SCRIPT}; /bin/sleep {seconds}")
    wanted = [f"{OWN}-wanted-{number}" for number in range(3)]
    names = [f"{OWN}-stranger-{number}" for number in range(STRANGERS)]
    for number, name in enumerate(wanted):
        names.insert(7 * number, name)
    arguments = [str(GADGET), "--verify-image=false", "-o", "json", "-c", ",".join(wanted)]
    arguments += ["--map-fetch-interval", interval]
    with RunningGadget(tmp_path / "run", *arguments) as run:
        run.wait_running()
        subprocess.run(["unshare", "--mount", "sh", "-c", SCRIPT], check=False)
        with ThreadPoolExecutor(at_once) as pool:
            ended = [pool.submit(run_bundle, bundle, name) for name in names]
            if interval == "1h":
                wait_for(lambda: running(bundle) == set(names), "all containers", 60)
                time.sleep(seconds / 4)
                assert run.end() == 0
            for future in ended:
                future.result()
        if interval != "1h":
            wait_for(lambda: all(name in run.out for name in wanted), "the wanted ones", 20)
            assert run.end() == 0
    calls: Counter[str] = Counter()
    shown: set[str] = set()
    for line in run.out.splitlines():
        for row in json.loads(line):
            name = row["runtime"]["containerName"]
            shown.add(name)
            if row["comm"] == "mkdir" and row["syscall"] == "SYS_MKDIR":
                calls[name] += row["calls"]
    assert shown == set(wanted)
    assert calls == dict.fromkeys(wanted, CALLS)


def test_rows_of_containers_whose_numbers_are_used_again(tmp_path: Path) -> None:
    """They are shown under the names of those that made them, at the end, and no stranger's are."""
    bundle = make_bundle(tmp_path / "bundle", "/bin/sh", "-c", f"{NUMBERED}; {SCRIPT}")
    wanted = [f"{OWN}-wanted-{number}" for number in range(3)]
    arguments = [str(GADGET), "--verify-image=false", "-o", "json", "-c", ",".join(wanted)]
    arguments += ["--map-fetch-interval", "1h"]
    with RunningGadget(tmp_path / "run", *arguments) as run:
        run.wait_running()
        first, second = (mount_namespace(run_bundle(bundle, name)) for name in wanted[:2])
        run_bundle(bundle, f"{OWN}-stranger")
        time.sleep(GRACE + 1)
        for number in (first, second):
            output([sys.executable, "-P", "-c", STRANGER, number, SCRIPT])
        run_bundle(bundle, wanted[2])
        time.sleep(GRACE + 1)
        assert run.out == ""
        assert run.end() == 0
    assert counted(run.out) == dict.fromkeys(wanted, CALLS)


def test_a_row_of_one_of_two_namespaces_is_lost(tmp_path: Path) -> None:
    """A namespace that had ended before it was looked at had the number of a selected container."""
    script = (
        f"i=0; while [ $i -lt {CALLS} ]; do /bin/mkdir /proc/none; i=$((i+1)); done 2>/dev/null"
    )
    bundle = make_bundle(tmp_path / "bundle", "/bin/sh", "-c", f"{NUMBERED}; {script}")
    name = f"{OWN}-wanted"
    arguments = [str(GADGET), "--verify-image=false", "-o", "json", "-c", name]
    arguments += ["--map-fetch-interval", "1h"]
    number = ""
    with RunningGadget(tmp_path / "run", *arguments) as run:
        run.wait_running()
        run.process.send_signal(signal.SIGSTOP)
        # The scout's notices wait: nothing pins the number.
        before = output(["unshare", "--mount", "readlink", "/proc/self/ns/mnt"])
        number = mount_namespace(run_bundle(bundle, name))
        run.process.send_signal(signal.SIGCONT)
        time.sleep(2)
        assert run.end() == 0
    shown = counted(run.out)
    emitted, lost = run.account()
    if before.strip() == number:
        assert shown == {}
        assert (emitted, lost > 0) == (0, True)
    else:
        # Another process of this machine took the number in between.
        assert shown == {name: CALLS}


def test_a_negated_name_leaves_only_its_rows_out(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/sh", "-c", f"{SCRIPT}; /bin/sleep 2")
    names = [f"{OWN}-shown", f"{OWN}-left-out-1", f"{OWN}-left-out-2"]
    arguments = [str(GADGET), "--verify-image=false", "-o", "json", "-c", f"!{OWN}-left-out-*"]
    with RunningGadget(tmp_path / "run", *arguments) as run:
        run.wait_running()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda name: run_bundle(bundle, name), names))
        assert run.end() == 0
    calls = counted(run.out)
    assert calls[names[0]] == CALLS
    assert not {*names[1:]} & calls.keys()


def test_an_iterator_shows_selected_containers_only(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/sleep", "8")
    names = [f"{OWN}-iter-wanted", f"{OWN}-iter-stranger"]
    gadget = str(GADGET.with_name("snapshot_tasks"))
    arguments = [gadget, "--verify-image=false", "-o", "json", "-c", names[0]]
    with ThreadPoolExecutor(2) as pool:
        ended = [pool.submit(run_bundle, bundle, name) for name in names]
        wait_for(lambda: running(bundle) == set(names), "both containers", 60)
        with RunningGadget(tmp_path / "run", *arguments) as run:
            run.wait_running()
            wait_for(lambda: run.out.count("\n") >= 1, "an array", 20)
            assert run.end() == 0
        for future in ended:
            future.result()
    rows = [row for line in run.out.splitlines() for row in json.loads(line)]
    assert {row["runtime"]["containerName"] for row in rows} == {names[0]}
    assert {row["comm"] for row in rows} == {"sleep"}


def test_a_terminal_shows_rows_of_selected_containers_only(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/sh", "-c", f"{SCRIPT}; /bin/sleep 2")
    names = [f"{OWN}-tty-wanted", f"{OWN}-tty-other"]
    arguments = [str(GADGET), "--verify-image=false", "-c", names[0], "-v"]
    arguments += ["--map-fetch-interval", "500ms", "--fields", "runtime.containerName,comm,calls"]
    with terminal.ig_py("run", *arguments) as shown:
        shown.expect("running...")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda name: run_bundle(bundle, name), names))
        shown.expect("mkdir")
    rows = [line for line in shown.shown.splitlines() if "mkdir" in line]
    assert rows
    assert all(names[0] in row for row in rows)
    assert names[1] not in shown.shown
