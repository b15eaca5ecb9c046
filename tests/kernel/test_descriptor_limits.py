"""With few descriptors, neither the kernel nor a gadget is blamed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.root_gadget import image_tar
from support.running_gadget import IG_PY
from support.waiting import deadline

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(600),
]

PROBES = """
import json, os, resource
from ig_py._core import CoreError, probe
features = ["ringbuf", "kprobe", "tracepoint", "raw_tracepoint", "fentry", "lsm", "iter", "uprobe",
            "btf", "boot_ns", "kprobe_multi", "uprobe_multi", "run_stats"]
there = {f: probe(f) for f in features}
first = os.dup(0)
os.close(first)
wrong, refused = [], 0
for room in range(8):
    resource.setrlimit(resource.RLIMIT_NOFILE, (first + room, 4096))
    for feature in features:
        try:
            found = probe(feature)
        except CoreError as error:
            assert error.kind == "descriptors", (feature, error.kind, error.message)
            refused += 1
        else:
            if found != there[feature]:
                wrong.append((feature, room))
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
print(json.dumps([wrong, refused, [f for f in features if there[f]]]))
"""
BLAMED = re.compile(r"verifier|has no|internal error|Traceback|not there|missing")


def test_probes_tell_a_used_up_limit_from_a_missing_feature() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROBES], capture_output=True, text=True, timeout=deadline(120)
    )
    assert done.returncode == 0, done.stderr
    wrong, refused, there = json.loads(done.stdout)
    assert wrong == []
    # Without a descriptor left, nothing that is there is found.
    assert refused >= len(there) - 1


@pytest.mark.parametrize("limit", [24, 63, *range(64, 80, 3)])
def test_a_run_with_few_descriptors(tmp_path: Path, limit: int) -> None:
    image = image_tar(tmp_path)
    flags = ["--verify-image=false", "--host", "--runtimes=", "-o", "json", "-t", "1"]
    done = subprocess.run(
        ["prlimit", f"--nofile={limit}:{limit}", IG_PY, "run", str(image), *flags],
        capture_output=True,
        text=True,
        timeout=deadline(60),
    )
    last = done.stderr.splitlines()[-1]
    if done.returncode == 0:
        assert limit >= 64
        return
    assert re.search(r"[Tt]oo many open files|files may be open", last), done.stderr
    assert "ulimit -n" in last
    assert not BLAMED.search(last)
