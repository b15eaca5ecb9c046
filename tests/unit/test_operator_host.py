"""What the host offers to operators, with and without an operator that watches containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.live_run import FixedContainers, running

from ig_py.host.proc import HostView
from ig_py.operators.parts import PlanParts, Step
from ig_py.operators.running import Host, Timer


def test_without_containers_everything_is_shown_and_the_hosts_network_is_watched(
    tmp_path: Path,
) -> None:
    namespace = tmp_path / "proc/1/ns/net"
    namespace.parent.mkdir(parents=True)
    namespace.touch()
    host = Host(HostView(str(tmp_path)))
    assert host.container_of(5) == ""
    assert host.selects(5)
    [fd] = host.open_netns()
    try:
        assert os.fstat(fd).st_ino == namespace.stat().st_ino
    finally:
        os.close(fd)


def test_bound_methods_ask_the_containers_that_are_provided_later() -> None:
    host = Host(HostView())
    container_of, selects, open_netns = host.container_of, host.selects, host.open_netns
    host.provide_containers(FixedContainers(5))
    assert (container_of(5), container_of(6)) == ("c5", "")
    assert (selects(5), selects(6)) == (True, False)
    assert open_netns() == []


def test_only_one_operator_provides_containers() -> None:
    host = Host(HostView())
    host.provide_containers(FixedContainers(5))
    with pytest.raises(RuntimeError, match="two operators"):
        host.provide_containers(FixedContainers(6))
    assert host.selects(5)


def test_a_timer_is_first_due_after_an_interval_unless_said_otherwise() -> None:
    live = running()

    def work() -> None: ...

    live.every(10, work)
    live.every(10, work, first=3, times=2)
    assert live.timers == [Timer(10, work, 10, 0), Timer(10, work, 3, 2)]


def test_steps_are_kept_in_order_by_data_source() -> None:
    parts = PlanParts()
    first = parts.add_step("a", 5, op="x", src=1)
    parts.add_step("b", 0, op="z")
    parts.add_step("a", 0, op="y")
    assert first.body == {"op": "x", "src": 1}
    assert parts.steps == {
        "a": [Step(5, {"op": "x", "src": 1}), Step(0, {"op": "y"})],
        "b": [Step(0, {"op": "z"})],
    }
