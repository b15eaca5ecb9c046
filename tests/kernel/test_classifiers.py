"""Classifiers leave packets to each other, and still decide what they are asked to."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from support.gadget_build import gadget_object
from support.gadget_format import GADGETS
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget
from support.waiting import wait_for

from ig_py.gadget.elf import Elf
from ig_py.gadget.insn import Code
from ig_py.runtime.classifiers import passing_on

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "clang"),
    pytest.mark.timeout(600),
]

PORT = 47012
"""The port whose packets get the gadget's ``--verdict``."""
OK, SHOT = 0, 2


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("image")
    return str(image_tar(directory, GADGETS / "packet_classifier"))


def classifier(directory: Path, image: str, verdict: int) -> RunningGadget:
    flags = ("--verify-image=false", "--host", "--iface", "lo", "-o", "json")
    return RunningGadget(directory, image, *flags, f"--verdict={verdict}")


def send(port: int = PORT) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b"x", ("127.0.0.1", port))


def directions(run: RunningGadget) -> list[int]:
    seen: list[dict[str, Any]] = [e for e in run.events() if e["port"] == PORT]
    return sorted(e["egress"] for e in seen)


def test_a_passing_verdict_hides_packets_from_no_other_classifier(
    tmp_path: Path, image: str
) -> None:
    with (
        classifier(tmp_path / "one", image, OK) as one,
        classifier(tmp_path / "other", image, OK) as other,
    ):
        for run in (one, other):
            run.wait_running()
        send()
        for run in (one, other):
            wait_for(lambda run=run: directions(run) == [0, 1], "both directions are seen", 30)


def test_a_packet_that_is_dropped_stays_dropped(tmp_path: Path, image: str) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside,
        classifier(tmp_path / "run", image, SHOT) as run,
    ):
        inside.bind(("127.0.0.1", PORT))
        run.wait_running()
        send()
        wait_for(lambda: directions(run) == [1], "the packet leaves", 30)
        inside.setblocking(False)
        with pytest.raises(BlockingIOError):
            inside.recv(1)
        assert run.end() == 0
    assert directions(run) == [1]


@pytest.mark.any_kernel
def test_only_the_programs_own_ends_change(tmp_path: Path) -> None:
    obj = gadget_object("packet_classifier", tmp_path)
    before, after = Code(Elf(obj)), Code(Elf(passing_on(obj, "it")))
    assert before.functions.keys() == after.functions.keys()
    for name, function in before.functions.items():
        ends = [i for i in after.functions[name].instructions if i.opcode == 0x95]
        body = after.functions[name].instructions
        if function.section.startswith("classifier/"):
            assert [i.offset - body[0].offset for i in ends] == [24]
            assert len(body) == len(function.instructions) + 4
        else:
            assert body == function.instructions


@pytest.mark.any_kernel
def test_other_objects_stay_as_they_are(tmp_path: Path) -> None:
    obj = gadget_object("packet_filter", tmp_path)
    assert passing_on(obj, "it") is obj
