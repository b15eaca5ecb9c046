"""Arrays under ``-c``: rows of selected containers only, also of those that start meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
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
SCRIPT = f"i=0; while [ $i -lt {CALLS} ]; do /bin/mkdir /proc/none; i=$((i+1)); done 2>/dev/null"


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
