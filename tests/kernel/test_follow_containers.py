"""Programs follow containers: probes in their files, filters in their network namespaces."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from support.bpf_holders import not_of_others
from support.bpf_ids import ids
from support.fake_container import ContainerLike
from support.fake_docker import FakeDocker
from support.gadget_build import workload_program
from support.gadget_format import GadgetTest
from support.gadget_runner import GadgetUnderTest, load
from support.tracer import links_of
from support.waiting import deadline, wait_for

from ig_py._core import CoreError, Object
from ig_py.containers.targets import Target
from ig_py.gadget.spec import ProgramSpec
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor
from ig_py.runtime import target_attacher
from ig_py.runtime.packets import Classifiers
from ig_py.runtime.uprobes import MAX_REPLACED

pytestmark = [pytest.mark.needs("root", "bpf", "btf", "ringbuf"), pytest.mark.timeout(300)]

LOCAL = "operator.LocalManager."
Make = Callable[..., ContainerLike]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("built")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeDocker]:
    engine = FakeDocker(tmp_path / "docker.sock")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def image(tmp_path: Path, built: Path) -> Path:
    """A root directory with nothing but /program."""
    directory = tmp_path / "image"
    directory.mkdir()
    program = workload_program("user_functions", built, "static")
    assert program is not None
    shutil.copy(program, directory / "program")
    return directory


@pytest.fixture
def make(tmp_path: Path, image: Path) -> Iterator[Make]:
    """Makes containers of *image*, which end with the test."""
    with contextlib.ExitStack() as stack:
        number = 0

        def made(name: str, of: Path = image, *, host_network: bool = False) -> ContainerLike:
            nonlocal number
            number += 1
            directory = tmp_path / f"container{number}"
            container = ContainerLike(of, directory, number, name, host_network=host_network)
            return stack.enter_context(container)

        yield made


def running(
    gadget: str, engine: FakeDocker, built: Path, programs: Mapping[str, Any], **params: str
) -> GadgetUnderTest:
    test = GadgetTest(gadget, "following", programs=programs)
    given = {LOCAL + "runtimes": "docker", LOCAL + "docker-socketpath": str(engine.path)}
    return GadgetUnderTest(load(test, built, {}), {**given, **params})


def arrived(gadget: GadgetUnderTest, source: str, **wanted: object) -> list[Any]:
    def found() -> list[Any]:
        assert gadget.failure is None, gadget.failure
        events = gadget.events()[source]
        return [e for e in events if all(e[key] == value for key, value in wanted.items())]

    return wait_for(found, f"{source} with {wanted}", 15)


def probes() -> int:
    """Places that this process has put on_function to."""
    return links_of(os.getpid(), "on_function")


PROBED = {
    "on_library": {"attach_to": "gadget_program_disabled"},
    "on_function": {"attach_to": "/program:user_double"},
}


@pytest.mark.needs("uprobe")
def test_each_file_is_probed_once(engine: FakeDocker, built: Path, make: Make) -> None:
    first, second = make("first"), make("second")
    first.begin(engine)
    with running("user_functions", engine, built, PROBED) as gadget:
        assert probes() == 1
        first.run("1")
        (event,) = arrived(gadget, "hits", value=1)
        assert event["runtime"]["containerName"] == "first"
        second.begin(engine)

        def seen() -> bool:
            second.run("2")
            return any(e["value"] == 2 for e in gadget.events()["hits"])

        wait_for(seen, "the second's events")
        # The file of both is one: a second probe would double each event.
        assert probes() == 1
        first.end(engine)
        second.run("3")
        assert len(arrived(gadget, "hits", value=3)) == 1
        second.end(engine)
        wait_for(lambda: probes() == 0, "the probe goes with its last user")
    assert gadget.failure is None


@pytest.mark.needs("uprobe")
def test_a_file_that_is_replaced_is_probed_too(
    engine: FakeDocker, built: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the upgrade of a package: another file takes its name."""
    monkeypatch.setattr(target_attacher, "MAX_RETRY_SECONDS", 0.1)
    container = make("first")
    container.begin(engine)

    def replace() -> None:
        new = shutil.copy(container.root / "program", container.root / "new")
        Path(new).rename(container.root / "program")

    with running("user_functions", engine, built, PROBED) as gadget:
        assert probes() == 1
        replace()
        wait_for(lambda: probes() == 2, "both files are probed")
        container.run("5")
        assert len(arrived(gadget, "hits", value=5)) == 1
        for count in range(3, MAX_REPLACED + 2):
            replace()
            wait_for(lambda count=count: probes() == count, "the next is probed too")
        replace()
        wait_for(lambda: container.run("7") or seen(gadget, 7), "the last is probed")
        wait_for(lambda: probes() == MAX_REPLACED + 1, "the first is probed no more")
        container.end(engine)
        wait_for(lambda: probes() == 0, "they go with the container")
    assert gadget.failure is None


def seen(gadget: GadgetUnderTest, value: int) -> bool:
    return any(e["value"] == value for e in gadget.events()["hits"])


@pytest.mark.needs("uprobe")
def test_hostile_files_do_not_stop_other_probes(
    engine: FakeDocker, built: Path, make: Make, image: Path, tmp_path: Path
) -> None:
    """Links out of the root, files that never end, and what is no file."""
    bad = tmp_path / "bad"
    shutil.copytree(image, bad)
    (bad / "etc").mkdir()
    with (bad / "etc/ld.so.cache").open("wb") as file:
        file.truncate(1 << 40)
    (bad / "out").symlink_to(f"../../../../../../..{image}/program")
    os.mkfifo(bad / "fifo")
    with (bad / "huge").open("wb") as file:
        file.write(b"\x7fELF\x02\x01\x01" + b"\xff" * 64)
        file.truncate(1 << 40)
    for path in ("/out", "/fifo", "/huge", "/dev/zero", "/proc/self/exe", "libc"):
        programs = {
            "on_library": {"attach_to": f"{path}:user_double"},
            "on_function": {"attach_to": "/program:user_double"},
        }
        hostile = make("hostile", bad)
        hostile.begin(engine)
        started = time.monotonic()
        with running("user_functions", engine, built, programs) as gadget:
            assert time.monotonic() - started < 30
            assert probes() == 1, path
            hostile.run("4")
            arrived(gadget, "hits", value=4, program="function")
            assert not [e for e in gadget.events()["hits"] if e["program"] == "library"]
        assert gadget.failure is None
        hostile.end(engine)


def send(port: int, address: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (address, port))


def send_inside(container: ContainerLike, port: int, address: str = "127.0.0.1") -> None:
    code = "import socket,sys; s=socket.socket(2,2); s.sendto(b'x',(sys.argv[1],int(sys.argv[2])))"
    container.in_network(sys.executable, "-P", "-c", code, address, str(port))


def dispatchers() -> int:
    """Packet filters that this process has loaded, or that stayed after it closed them."""
    filters = (number for number, name in ids("program").items() if name == "ig_dispatch")
    return len(not_of_others("program", filters))


def test_packets_of_network_namespaces(engine: FakeDocker, built: Path, make: Make) -> None:
    first, second, other = make("first"), make("second"), make("other")
    for container in (first, second, other):
        container.in_network("ip", "link", "set", "lo", "up")
    first.begin(engine)
    other.begin(engine)
    before = dispatchers()
    params = {"containername": "first,second"}
    with running("packet_filter", engine, built, {}, **params) as gadget:
        send(47101)
        send_inside(other, 47102)
        send_inside(first, 47103)
        for event in arrived(gadget, "packets", port=47103):
            assert event["netns_id"] == first.namespace("net")
            assert event["runtime"]["containerName"] == "first"
        second.begin(engine)
        wait_for(lambda: dispatchers() == before + 2, "the second is watched too")
        send_inside(second, 47104)
        arrived(gadget, "packets", port=47104)
        first.end(engine)
        wait_for(lambda: dispatchers() == before + 1, "the filter goes with its namespace")
        ports = {e["port"] for e in gadget.events()["packets"]}
        assert ports == {47103, 47104}
    assert gadget.failure is None
    wait_for(lambda: dispatchers() == before, "nothing stays")


def plug(container: ContainerLike, number: int) -> str:
    """Give the container an interface as engines do: made on the host, moved, and set up last."""
    near, far = f"igl{number}p{os.getpid() % 100000}", f"inside{number}"
    for command in (
        f"ip link add {near} type veth peer name {far}",
        f"ip link set {far} netns {container.pid}",
        f"ip addr add 198.51.{100 + number}.1/24 dev {near}",
        f"ip link set {near} up",
    ):
        subprocess.run(command.split(), check=True)
    container.in_network("ip", "addr", "add", f"198.51.{100 + number}.2/24", "dev", far)
    container.in_network("ip", "link", "set", far, "up")
    return near


def test_interfaces_that_come_while_the_container_runs(
    engine: FakeDocker,
    built: Path,
    make: Make,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A slow machine makes the interfaces of all three in more time than that.
    monkeypatch.setattr(target_attacher, "WARN_SECONDS", deadline(target_attacher.WARN_SECONDS))
    containers = [make(f"late{number}") for number in range(3)]
    alone = make("alone")
    before = dispatchers()
    with running("packet_classifier", engine, built, {}) as gadget:
        for container in (*containers, alone):
            container.begin(engine)
        near = [plug(container, number) for number, container in enumerate(containers)]
        wait_for(lambda: dispatchers() == before + 6, "each interface has both programs")
        for number, container in enumerate(containers):
            send(47110 + number, f"198.51.{100 + number}.2")
            for event in arrived(gadget, "packets", port=47110 + number):
                assert event["netns_id"] == container.namespace("net")
        # As by "docker network connect", and "disconnect".
        more = plug(containers[0], 5)
        wait_for(lambda: dispatchers() == before + 8, "the further interface has them too")
        subprocess.run(["ip", "link", "del", more], check=True)
        wait_for(lambda: dispatchers() == before + 6, "they go with the interface")
        subprocess.run(["ip", "link", "del", near[1]], check=True)
        wait_for(lambda: dispatchers() == before + 4, "they go with the interface")
        containers[0].end(engine)
        wait_for(lambda: dispatchers() == before + 2, "they go with the container")
        wait_for(lambda: "'alone'" in caplog.text, "the container without interface is told", 20)
    assert gadget.failure is None
    told = [r.getMessage() for r in caplog.records if "not attached" in r.getMessage()]
    assert [("'alone'" in line, "'late0'" in line) for line in told] == [(True, False)], told
    assert "on_ingress" in told[0]
    assert "no interface that is up" in told[0]
    wait_for(lambda: dispatchers() == before, "nothing stays")


def test_packets_of_interfaces(engine: FakeDocker, built: Path, make: Make) -> None:
    container = make("first")
    near, far = f"igp{os.getpid() % 100000}", "inside"
    pair = ["ip", "link", "add", near, "type", "veth", "peer", "name", far]
    subprocess.run([*pair, "netns", str(container.pid)], check=True)
    subprocess.run(["ip", "addr", "add", "198.51.100.1/24", "dev", near], check=True)
    subprocess.run(["ip", "link", "set", near, "up"], check=True)
    container.in_network("ip", "addr", "add", "198.51.100.2/24", "dev", far)
    container.in_network("ip", "link", "set", far, "up")
    container.begin(engine)
    before = dispatchers()
    with running("packet_classifier", engine, built, {}) as gadget:
        assert dispatchers() == before + 2
        send(47105, "198.51.100.2")
        for event in arrived(gadget, "packets", port=47105):
            assert (event["egress"], event["netns_id"]) == (0, container.namespace("net"))
        send_inside(container, 47106, "198.51.100.1")
        assert {e["egress"] for e in arrived(gadget, "packets", port=47106)} == {1}
        send(47107)
        container.end(engine)
        wait_for(lambda: dispatchers() == before, "the programs go with the container")
        assert not [e for e in gadget.events()["packets"] if e["port"] == 47107]
    assert gadget.failure is None
    # The namespace has no reference left: the kernel removes it and both ends of the pair.
    wait_for(lambda: not Path(f"/sys/class/net/{near}").exists(), "the interface goes")


def test_a_container_on_the_hosts_network(
    engine: FakeDocker, built: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Its packets cannot be told from the host's: none is shown as the container's."""
    make("hosted", host_network=True).begin(engine)
    params = {"containername": "hosted"}
    before = dispatchers()
    with running("packet_filter", engine, built, {}, **params) as gadget:
        assert dispatchers() == before + 1
        send(47120)
        events = arrived(gadget, "packets", port=47120)
        assert {e["runtime"]["containerName"] for e in events} == {""}
    assert gadget.failure is None
    assert "not attached" not in caplog.text
    with running("packet_classifier", engine, built, {}, **params) as gadget:
        wait_for(lambda: "not attached" in caplog.text, "it is told", 20)
        assert dispatchers() == before
    assert gadget.failure is None
    (told,) = [r.getMessage() for r in caplog.records if "not attached" in r.getMessage()]
    assert told.startswith("container 'hosted': not attached: program")
    assert told.endswith("it is on the host's network; --iface names an interface of the host")


class NoMoreInterfaces:
    """An object of the core that is attached to one interface, and to no further one."""

    def __init__(self) -> None:
        self.indexes: set[int] = set()

    def attach_interface(self, _program: str, _netns: int, index: int, **_how: object) -> int:
        if self.indexes - {index}:
            raise CoreError("attach", "no more room")
        self.indexes.add(index)
        return index


def test_an_interface_that_cannot_be_attached_to_is_told_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    container = make("full")
    plug(container, 6)
    reactor = Reactor("attach")
    reactor.start()
    programs = [ProgramSpec("on_ingress", "classifier/ingress/seen")]
    obj = cast(Object, NoMoreInterfaces())
    classifiers = Classifiers(obj, programs, HostView(), lambda _number: None, reactor)
    target = Target("1", "full", container.pid)
    try:
        assert classifiers.attach(target, made=True) is None
        for number in (7, 8):
            plug(container, number)
            wait_for(lambda: "not attached" in caplog.text, "it is told", 10)
        reactor.soon(lambda: classifiers.detach(target))
        wait_for(lambda: not classifiers._networks, "it is forgotten", 10)
    finally:
        reactor.stop()
    (told,) = [r.getMessage() for r in caplog.records if "not attached" in r.getMessage()]
    label = 'program "on_ingress" (classifier/ingress/seen)'
    assert told == f"container 'full': not attached: {label}: no more room"
