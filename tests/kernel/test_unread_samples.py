"""Any user can make namespaces that end all the time: deciding about them takes no room from events
that wait in a ring buffer for a slow reader."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from support.bpf_build import compile_object
from support.core_plans import PlanMaker
from support.pumping import next_batches
from support.waiting import wait_for

from ig_py._core import Map, Object, Scout, Stream
from ig_py.containers.scout import Kind, _mount_namespaces, _pidns
from ig_py.host.proc import HostView

pytestmark = pytest.mark.needs("root", "bpf", "btf", "clang", "ringbuf", "tracepoint")

HASH = 1
BURST, TIMES = 1000, 20
RING = 2 << 20
"""All events fit into it; into the backlog, which has 1 MiB, two thirds of them."""
NAMESPACES = 20


def plan() -> str:
    maker = PlanMaker(64)
    maker.field("sequence", "u64", 0, 8)
    mntns = maker.field("mntns_id", "u64", 8, 8)
    maker.step("container", mntns=mntns, netns=None, fields={"k8s.podName": maker.slot("pod")})
    maker.datasource |= {"map": "events", "loss_map": "events_lost_samples"}
    maker.document["backlog_bytes"] = 1 << 20
    return maker.text()


def reject_all(scout: Scout, stream: Stream) -> int:
    found = [n for n in scout.notices() if n.kind == Kind.NEW]
    for notice in found:
        stream.decide(notice.mntns, notice.generation, "reject")
        scout.settle(notice.mntns, notice.generation)
    return len(found)


def test_rejected_namespaces_take_no_room_from_events_that_wait(tmp_path: Path) -> None:
    obj = Object(compile_object("core/stress.bpf.c", tmp_path), "stress")
    produced = Map.create("produced", HASH, 4, 8, 8)
    produced.update(bytes(4), bytes(8))
    obj.reuse_map("produced", produced)
    for program in obj.programs():
        obj.set_autoload(program["name"], program["name"] == "on_enter")
    obj.set_max_entries("events", RING)
    # target_pid, burst, use_perf, mntns.
    obj.set_data(".rodata", 0, struct.pack("=IIIxxxxQ", os.getpid(), BURST, 0, 42))
    obj.load()
    view = HostView()
    scout = Scout(_pidns(view), (64, 64))
    stream = obj.stream(plan())
    try:
        scout.baseline(_mount_namespaces(view))
        scout.attach()
        stream.admit_by(scout, True)
        obj.attach("on_enter")

        def seen_with_namespaces() -> int:
            """Events that a reader sees which does not read while namespaces come and go."""
            before = stream.counters()["x"]["emitted"]
            for _ in range(TIMES):
                os.getppid()
            for _ in range(NAMESPACES):
                subprocess.run(["unshare", "--map-root-user", "--mount", "true"], check=True)
                wait_for(lambda: reject_all(scout, stream), "the notice", 10, 0.001)
            while next_batches(stream, 0):
                pass
            return int(stream.counters()["x"]["emitted"]) - before

        # The scout knows the ring buffer after an RCU grace period.
        wait_for(lambda: seen_with_namespaces() == BURST * TIMES, "all events", 30)
        lost = stream.counters()["x"]["lost"]
        assert seen_with_namespaces() == BURST * TIMES
        assert stream.counters()["x"]["lost"] == lost
    finally:
        scout.close()
        stream.close()
        obj.close()
        produced.close()
