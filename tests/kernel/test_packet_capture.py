"""``run -o pcap-ng``: the packets of an interface, as a capture."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import pcapng, terminal
from support.fake_docker import fake_docker
from support.gadget_format import GADGETS
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget, ig_py
from support.waiting import wait_for

pytestmark = [
    pytest.mark.any_kernel,
    pytest.mark.needs("root", "bpf", "btf", "clang"),
    pytest.mark.timeout(300),
]

OUT, IN = (
    pcapng.Interface("virtual", f"direction={way};runtime.containerName=;ifindex=1")
    for way in ("going+out", "coming+in")
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("image")
    return str(image_tar(directory, GADGETS / "packet_capture"))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Flags for an engine without containers: the machine's own may use the host's network."""
    with fake_docker(tmp_path) as fake:
        yield "-r", "docker", f"--docker-socketpath={fake.path}"


def started(tmp_path: Path, image: str, engine: Sequence[str], *more: str) -> RunningGadget:
    flags = ("--verify-image=false", "--host", "--iface", "lo", "-o", "pcap-ng")
    return RunningGadget(tmp_path, image, *flags, *engine, *more)


def send(*payloads: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for payload in payloads:
            out.sendto(payload, ("127.0.0.1", 47013))


def test_packets_as_they_pass(tmp_path: Path, image: str, engine: tuple[str, ...]) -> None:
    before = time.time_ns()
    with started(tmp_path, image, engine) as run:
        run.wait_running()
        wait_for(lambda: run.raw, "the capture begins before any packet", 30)
        send(b"first 4711", b"x" * 9000, b"last 4711")
        wait_for(lambda: run.raw.count(b"last 4711") == 2, "both directions are captured", 30)
        assert run.end() == 0
    found = pcapng.read(run.raw)
    assert found.interfaces[0] == pcapng.Interface("others", "")
    assert set(found.interfaces[1:]) == {OUT, IN}
    ours = [p for p in found.packets if p.data[36:38] == (47013).to_bytes(2, "big")]
    for way in (OUT, IN):
        packets = [p for p in ours if p.interface == way]
        assert [p.length for p in packets] == [52, 9042, 51]
        assert [len(p.data) for p in packets] == [52, 1500, 51]
        assert packets[0].data.endswith(b"first 4711")
        assert packets[1].data[42:] == b"x" * 1458
        times = [p.at for p in packets]
        assert before <= times[0] <= times[1] <= times[2] <= time.time_ns()
    assert run.account() == (len(found.packets), 0)


def test_a_filter_and_a_length(tmp_path: Path, image: str, engine: tuple[str, ...]) -> None:
    with started(tmp_path, image, engine, "--snaplen", "50", "-F", "direction==coming in") as run:
        run.wait_running()
        send(b"y" * 100)
        wait_for(lambda: b"yyyyyyyy" in run.raw, "the packet is captured", 30)
        assert run.end() == 0
    packet = next(p for p in pcapng.read(run.raw).packets if b"yyyyyyyy" in p.data)
    assert (packet.interface, len(packet.data), packet.length) == (IN, 50, 142)


def test_a_capture_without_packets(tmp_path: Path, image: str, engine: tuple[str, ...]) -> None:
    with started(tmp_path, image, engine, "-F", "length==1") as run:
        run.wait_running()
        assert run.end() == 0
    assert pcapng.read(run.raw).packets == []


def test_refusals(image: str) -> None:
    given = ("--verify-image=false", "--host", "--iface", "lo", "-o", "pcap-ng")
    done = ig_py("run", image, *given, "--annotate", "packets:pcap.payload=")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "annotation pcap.payload is missing" in done.stderr
    with terminal.ig_py("run", image, *given) as shown:
        shown.expect("output mode pcap-ng is not for a terminal")
        assert shown.status() == 1
