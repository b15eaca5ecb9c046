"""An event of every C type, compared with the output of `ig`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import features
from support.gadget_build import VARIABLE, gadget_object
from support.gadget_format import GadgetTest
from support.gadget_runner import GadgetUnderTest, load
from support.waiting import wait_for

from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import BtfKind
from ig_py.gadget.elf import Elf

pytestmark = [pytest.mark.needs("root", "bpf", "btf", "tracepoint"), pytest.mark.any_kernel]

RECORDED = json.loads(
    (Path(__file__).parents[1] / "wire/data/reference_event.json").read_text(encoding="utf-8")
)
DELIBERATE = {
    # There: a broken line of JSON, as the first three arrays have no values.
    "barr": [True, False],
    "strs": ["x", ""],
    # There: signed.
    "arr64": [(1 << 64) - 1, 0],
    # There: below a field without a name.
    "anon_y": 10,
    "anon_u1": 17,
    "anon_u2": 17,
    # There: the whole storage unit.
    "bf1": 3,
    "bf2": 2,
    # There: nothing of them.
    "colortd": "GREEN",
    "in_td": {"a": 6, "s": ""},
}
"""As docs/compatibility.md and docs/plan.md say."""
ENVIRONMENT = {"timestamp", "timestamp_raw", "mntns_id", "proc", "k8s", "runtime"}


def test_the_recorded_event(tmp_path: Path) -> None:
    if VARIABLE not in os.environ:
        features.need("clang")
    gadget = load(GadgetTest("reference_types", "x"), tmp_path, {})
    child = subprocess.Popen([sys.executable, "-P", "-c", "input()"], stdin=subprocess.PIPE)
    with GadgetUnderTest(gadget, {"host": "true", "pid": str(child.pid)}) as running:
        child.communicate(b"\n")

        def events() -> list[dict[str, Any]]:
            assert running.failure is None, running.failure
            return running.events()["bt"]

        event = wait_for(events, "the event", 30)[0]
    assert event["proc"]["pid"] == child.pid
    wanted = RECORDED | DELIBERATE
    elf = Elf(gadget_object("reference_types", tmp_path), "x")
    section = elf.section(".BTF")
    assert section is not None
    if list(Btf(elf.data(section), "x").of_kind(BtfKind.ENUM64)):
        # There: names of 32 bits. Compilers before clang 15 do not tell them either.
        wanted["c64"] = "BIG"
    assert {k: v for k, v in event.items() if k not in ENVIRONMENT} == wanted
    assert event.keys() >= ENVIRONMENT
