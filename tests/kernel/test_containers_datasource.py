"""The containers data source reports containers that no engine manages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.gadget_format import GADGETS
from support.oci_bundle import make_bundle, run_bundle
from support.running_gadget import RunningGadget, ig_py
from support.waiting import wait_for

pytestmark = [
    pytest.mark.any_kernel,
    pytest.mark.needs("root", "bpf", "btf", "clang", "busybox", "runc"),
    pytest.mark.timeout(300),
]

GADGET = str(GADGETS / "container_changes")
NAMES = ("ig-py-told", "ig-py-untold")


def telling(directory: Path, output: str, *arguments: str) -> RunningGadget:
    return RunningGadget(directory, GADGET, "-r", "runc", "-o", output, *arguments)


def run_both(directory: Path) -> None:
    bundle = make_bundle(directory, "/bin/echo", "out")
    for name in NAMES:
        assert run_bundle(bundle, name) == "out\n"


def test_containers_come_and_go(tmp_path: Path) -> None:
    output = "containers:json,executions:none"
    with telling(tmp_path / "run", output, "-c", NAMES[0]) as gadget:
        gadget.wait_running()
        run_both(tmp_path / "bundle")
        wait_for(lambda: "DELETED" in gadget.out, "its end", 20)
        assert gadget.end() == 0
    of = {name: [e for e in gadget.events() if e["container_id"] == name] for name in NAMES}
    kinds = {name: [event["event_type"] for event in events] for name, events in of.items()}
    assert kinds[NAMES[0]][-2:] == ["CREATED", "DELETED"]
    # A container that is only created cannot be selected yet.
    assert set(kinds[NAMES[0]][:-2]) | set(kinds[NAMES[1]]) <= {"PRECREATE"}
    created, deleted = of[NAMES[0]][-2:]
    assert created | {"event_type": "DELETED"} == deleted
    assert created["name"] == NAMES[0]
    assert created["mntns_id"] > 0
    assert "cgroup_id" in created
    # The machine's own containers may begin at any time.
    for event in (event for name in NAMES for event in of[name]):
        if event["container_config"]:
            assert json.loads(event["container_config"])["process"]["args"] == ["/bin/echo", "out"]


def test_container_events_beside_the_gadgets_own(tmp_path: Path) -> None:
    with telling(tmp_path / "run", "json", "-c", NAMES[0]) as gadget:
        gadget.wait_running()
        run_both(tmp_path / "bundle")
        wait_for(lambda: "DELETED" in gadget.out, "its end", 20)
        assert gadget.end() == 0
    (created,) = [e for e in gadget.events() if e.get("event_type") == "CREATED"]
    (execution,) = [e for e in gadget.events() if e.get("comm") == "echo"]
    assert execution["mntns_id"] == created["mntns_id"]
    assert execution["runtime"]["containerName"] == created["name"] == NAMES[0]


def test_in_columns_and_filtered(tmp_path: Path) -> None:
    output = "containers:columns,executions:none"
    wanted = ("-c", NAMES[0], "--filter.containers", "event_type!=PRECREATE")
    with telling(tmp_path / "run", output, *wanted) as gadget:
        gadget.wait_running()
        run_both(tmp_path / "bundle")
        wait_for(lambda: "DELETED" in gadget.out, "its end", 20)
        assert gadget.end() == 0
    header, *rows = [line.split() for line in gadget.out.splitlines()]
    assert header == ["EVENT_TYPE", "CONTAINER_ID", "CGROUP_ID", "MNTNS_ID", "NAME"]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        (kind, NAMES[0], NAMES[0]) for kind in ("CREATED", "DELETED")
    ]


def test_container_events_are_off_by_default(tmp_path: Path) -> None:
    with RunningGadget(tmp_path / "run", GADGET, "-r", "runc", "-c", NAMES[0]) as gadget:
        gadget.wait_running()
        run_both(tmp_path / "bundle")
        wait_for(lambda: "echo" in gadget.out, "its execution", 20)
        assert gadget.end() == 0
    assert "CREATED" not in gadget.out


def test_inspection_shows_the_fields(tmp_path: Path) -> None:
    reference = "ig-py-test.local/container_changes:test"
    built = ig_py("image", "build", GADGET, "-t", reference)
    assert built.returncode == 0, built.stderr
    try:
        shown = ig_py(
            "image",
            "inspect",
            reference,
            "--show-datasources",
            "--verify-image=false",
            "-o",
            "json",
        )
    finally:
        ig_py("image", "remove", reference)
    by_name = {ds["name"]: ds for ds in json.loads(shown.stdout)}
    told = by_name["containers"]
    assert told["annotations"] == {"cli.default-output-mode": "none"}
    assert [(f["name"], f["kind"]) for f in told["fields"]] == [
        ("event_type", 12),
        ("container_id", 12),
        ("cgroup_id", 9),
        ("mntns_id", 9),
        ("name", 12),
        ("container_config", 12),
    ]
    assert "executions" in by_name
