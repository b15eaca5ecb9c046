"""Where the programs that tell of sockets go, and what is said when they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ig_py._core import CoreError
from ig_py.errors import KernelError
from ig_py.host.proc import HostView
from ig_py.operators import _socket_hooks as socket_hooks


class FakeObject:
    """Takes what is attached, but refuses some."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses
        self.loaded: set[str] = set()
        self.attached: list[str] = []
        self.places: set[str] = set()

    def set_autoload(self, program: str, load: bool) -> None:
        (self.loaded.add if load else self.loaded.discard)(program)

    def attach(self, program: str) -> None:
        if program == self.refuses:
            raise CoreError("absent", f"no {program}", "")
        self.attached.append(program)

    def attach_cgroup(self, program: str, path: str) -> None:
        self.attach(program)
        self.places.add(path)


@pytest.fixture(autouse=True)
def nothing_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    def here(_kind: str, _place: object, work: Callable[[], Any], _attempt: str) -> Any:
        return work()

    monkeypatch.setattr(socket_hooks, "with_mount", here)
    monkeypatch.setattr(socket_hooks, "with_tracefs", lambda work: work())


def attach(obj: Any, roots: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> str:
    view = HostView("/host")
    monkeypatch.setattr(view, "cgroup2_mount", lambda: "/host/sys/fs/cgroup/unified")
    monkeypatch.setattr(socket_hooks, "_is_root", lambda path: path in roots)
    return socket_hooks.attach_to_cgroups(obj, view)


@pytest.mark.parametrize("root", ["/host/sys/fs/cgroup/unified", "/host/sys/fs/cgroup"])
def test_the_root_that_is_mounted_or_one_of_our_own(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    obj = FakeObject()
    assert attach(obj, (root,), monkeypatch) == ""
    assert obj.places == {root} and len(obj.attached) == 10


def test_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    obj = FakeObject()
    assert "root control group is not visible" in attach(obj, (), monkeypatch)
    assert not obj.attached


def test_hooks_that_cannot_be_attached_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    root = ("/host/sys/fs/cgroup/unified",)
    assert attach(FakeObject("sockets_sent6"), root, monkeypatch) == "no sockets_sent6"
    assert attach(FakeObject("sockets_connected"), root, monkeypatch) == "no sockets_connected"
    # A kernel without io_uring has no users of it.
    assert attach(FakeObject("sockets_ring_entered"), root, monkeypatch) == ""

    def refuse(_work: object) -> None:
        raise KernelError("mounting tracefs: no")

    monkeypatch.setattr(socket_hooks, "with_tracefs", refuse)
    assert "mounting tracefs" in attach(FakeObject(), root, monkeypatch)


def test_programs_of_one_way_are_loaded() -> None:
    for trampolines in (True, False):
        obj: Any = FakeObject()
        socket_hooks.choose(obj, trampolines)
        assert ("sockets_udp_send4" in obj.loaded) == trampolines
        assert ("sockets_sent4" in obj.loaded) != trampolines
        assert ("sockets_connected" in obj.loaded) != trampolines
    with pytest.raises(CoreError):
        refusing: Any = FakeObject("sockets_listen")
        socket_hooks.attach_trampolines(refusing)


def test_other_control_groups_are_no_root() -> None:
    assert not socket_hooks._is_root("/proc")
    assert not socket_hooks._is_root("/nowhere")
