"""/etc/localtime becomes another file while events are shown."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support.core_plans import PlanMaker
from support.waiting import deadline

pytestmark = pytest.mark.needs("root")

SHOW = """
import subprocess, sys, time
from ig_py._core import pipeline

plan, *zones = sys.argv[1:]
stream = pipeline(plan)
for number, zone in enumerate(zones):
    subprocess.run(["mount", "--bind", zone, "/etc/localtime"], check=True)
    time.sleep(1.1)
    boot = 10**18 + number * 10**9
    sys.stdout.write(stream.push("x", [boot.to_bytes(8, sys.byteorder)]).data.decode())
"""


def zone_file(path: Path, hours: int) -> str:
    """A zone of one offset from UTC, as tzfile(5) describes it."""
    counts = struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    path.write_bytes(
        b"TZif" + bytes(16) + counts + struct.pack(">lbb", hours * 3600, 0, 0) + b"ABC\0"
    )
    return str(path)


@pytest.mark.needs("localtime")
def test_times_are_shown_in_the_zone_of_now(tmp_path: Path) -> None:
    maker = PlanMaker(8)
    src = maker.field("timestamp_raw", "u64", 0, 8)
    maker.step("timestamp", src=src, dst=maker.slot("timestamp"), layout=None)
    maker.document |= {"clock_offset_ns": None, "timezone_offset_s": None}
    zones = [zone_file(tmp_path / str(hours), hours) for hours in (2, 9, -3)]
    argv = ["unshare", "--mount", sys.executable, "-P", "-c", SHOW, maker.text(), *zones]
    environment = {name: text for name, text in os.environ.items() if name != "TZ"}
    done = subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=deadline(60), check=True
    )
    shown = [json.loads(line)["timestamp"] for line in done.stdout.splitlines()]
    assert [text[-6:] for text in shown] == ["+02:00", "+09:00", "-03:00"]
