"""The wall clock is set while events are shown."""

from __future__ import annotations

import json
import struct
import time

import pytest
from support.core_plans import PlanMaker

from ig_py._core import Stream, pipeline

pytestmark = pytest.mark.needs("root", "settable_clock")

HOUR = 3600 * 10**9


def shown(stream: Stream) -> int:
    """The wall-clock time that an event of now gets."""
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return int(json.loads(stream.push("x", [struct.pack("<Q", boot)]).data)["timestamp_raw"])


def off(stream: Stream) -> float:
    """How many seconds that time is ahead of the wall clock."""
    return (shown(stream) - time.time_ns()) / 1e9


def step(ns: int) -> None:
    time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME) + ns)


def test_timestamps_follow_every_step() -> None:
    maker = PlanMaker(8)
    src = maker.field("timestamp_raw", "u64", 0, 8)
    maker.step("timestamp", src=src, dst=maker.slot("timestamp"), layout=None)
    maker.document |= {"clock_offset_ns": None, "timezone_offset_s": None}
    stream = pipeline(maker.text())
    assert abs(off(stream)) < 1
    for change in (HOUR, HOUR, -2 * HOUR):
        step(change)
        assert abs(off(stream)) < 1
