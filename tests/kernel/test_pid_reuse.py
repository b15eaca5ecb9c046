"""A process that gets the number of one that has ended is not taken for it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.reused_pid import SLEEP, born_again
from support.waiting import wait_for

from ig_py.containers.discovery import Discovery
from ig_py.containers.engines import unmanaged as unmanaged_module
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.oci_bundle import BundleReader
from ig_py.containers.runtime_state import State, is_same
from ig_py.containers.sources import DiscoverySource
from ig_py.containers.speakers import KERNEL
from ig_py.host.credentials import credentials_of
from ig_py.host.files import held, inode, read_text
from ig_py.host.proc import HostView, ProcessGone, alive

pytestmark = [pytest.mark.needs("root"), pytest.mark.timeout(120)]

ID = "ef" * 32
CONTAINER = Container(runtime=RuntimeInfo(name="docker", container_id=ID, container_name="web"))
OTHER_USER = 61_999


@pytest.fixture
def first() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP) as process:
        # A tick of the clock in which processes begin, so that the next one begins in another.
        time.sleep(0.05)
        yield process
        process.kill()


@contextlib.contextmanager
def second(first: subprocess.Popen[bytes], user: int | None = None) -> Iterator[int]:
    process = born_again(first, user=user)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def discovery() -> Iterator[Discovery]:
    found = Discovery([], HostView())
    found.start()
    yield found
    found.stop()


def test_what_is_held_is_absent_when_its_number_is_used_again(
    first: subprocess.Popen[bytes],
) -> None:
    with held(f"/proc/{first.pid}") as process:
        assert read_text(f"{process}/cmdline") and credentials_of(process)
        with second(first, OTHER_USER) as pid:
            assert read_text(f"/proc/{pid}/cmdline")
            assert read_text(f"{process}/cmdline") == ""
            assert credentials_of(process) is None
            assert inode(f"{process}/ns/mnt") is None


@pytest.mark.parametrize("same_pidns", [True, False])
def test_a_process_is_held_as_the_one_that_was_looked_at(
    first: subprocess.Popen[bytes], same_pidns: bool
) -> None:
    view = HostView()
    view.__dict__["same_pidns"] = same_pidns
    born = view.born(first.pid)
    process = view.open(first.pid, born)
    assert process.born == born
    assert is_same(view, State(first.pid, born))
    with second(first) as pid:
        assert same_pidns is not alive(process.pidfd)
        with pytest.raises(ProcessGone, match="another process's"):
            view.open(pid, born)
        view.open(pid).close()
        assert not is_same(view, State(pid, born))
    process.close()


def test_an_init_that_waits_for_its_description(
    discovery: Discovery, first: subprocess.Popen[bytes]
) -> None:
    """Any user can fork until a number comes again, while an engine is slow."""
    born = discovery.view.born(first.pid)
    discovery.init_found(ID, first.pid, DiscoverySource.CGROUPS, KERNEL, born)
    with second(first, OTHER_USER):
        discovery.describe(CONTAINER)
        assert discovery.collection.get(ID) is None


def test_an_init_that_no_engine_has_described(
    first: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unmanaged_module, "POLL_SECONDS", 1.0)
    discovery = Discovery([], HostView(), unmanaged=True)
    discovery.start()
    try:
        assert discovery.wait_listed(30)
        start = discovery.view.born(first.pid)
        state = State(first.pid, start, str(tmp_path))
        # As if an engine had this container and were about to describe it.
        discovery.reactor.soon(
            lambda: discovery.unmanaged._leave_to_engine(
                ID, state.pid, DiscoverySource.STATE, KERNEL, start, "runc"
            )
        )
        wait_for(lambda: first.pid in discovery.unmanaged._unclaimed, "it waits", 10, 0.01)
        with second(first, OTHER_USER) as pid:
            wait_for(lambda: pid not in discovery.unmanaged._unclaimed, "a later look", 20, 0.05)
            assert discovery.collection.get(ID) is None
    finally:
        discovery.stop()


def test_a_container_ends_though_its_number_is_used_again(
    first: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /proc is of another pid namespace, there is no pidfd to tell its end."""
    discovery = Discovery([], HostView())
    discovery.view.__dict__["same_pidns"] = False
    try:
        discovery.started(CONTAINER, first.pid)
        assert discovery.collection.get(ID) is not None
        discovery._live._look_at_processes()
        assert discovery.collection.get(ID) is not None
        # In the same mount namespace, which does not tell them apart.
        with second(first):
            discovery._live._look_at_processes()
            assert discovery.collection.get(ID) is None
    finally:
        discovery.stop()


def test_a_config_is_not_read_from_the_root_of_a_later_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be that of a container's process, whose root directory is its own."""
    (tmp_path / "config.json").write_text(json.dumps({"annotations": {"a": "b"}}))
    from ig_py.containers import oci_bundle

    view = HostView()
    with subprocess.Popen(["sh", "-c", "sleep 300 & echo $!; wait"], stdout=subprocess.PIPE) as one:
        assert one.stdout
        child = int(one.stdout.readline())
        reader = BundleReader(view)
        assert reader.of_init(child, "x", str(tmp_path), None)
        really = oci_bundle._places
        ended: list[subprocess.Popen[bytes]] = []

        def after_the_check(*arguments: object) -> tuple[str, ...]:
            """The parent ends between the look at its rights and at its files."""
            ended.append(born_again(one))
            return really(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(oci_bundle, "_places", after_the_check)
        monkeypatch.setattr(reader, "of_host", lambda *_: "")
        try:
            assert reader.of_init(child, "x", str(tmp_path), None) == ""
            assert ended
        finally:
            for process in ended:
                process.kill()
                process.wait()
            subprocess.run(["kill", "-9", str(child)], check=False)
