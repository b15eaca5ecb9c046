"""The socket enricher's struct, and types added to those of a kernel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.elf_writer import BtfWriter

from ig_py._core import CoreError, btf_to_c, btf_with_struct
from ig_py.errors import UsageError
from ig_py.gadget.sockets import Layout
from ig_py.gadget.spec import GadgetSpec, MapSpec
from ig_py.host.proc import HostView
from ig_py.operators import _socket_owners as socket_owners
from ig_py.operators.base import Context
from ig_py.operators.parts import LoadParts
from ig_py.operators.running import Host
from ig_py.operators.socket_enricher import SocketEnricher, parse_layout

SOCKETS = MapSpec("gadget_sockets", 1, 12, 8280, 16384)


def test_the_usual_struct() -> None:
    layout = parse_layout("cwd=512,exepath=512")
    assert layout.value_size == 1112
    places = {n: (offset, width * (count or 1)) for n, offset, width, count in layout.members()}
    assert places["ipv6only"] == (80, 1)
    assert places["cwd"] == (88, 512)
    assert places["exepath"] == (600, 512)


@pytest.mark.parametrize(
    ("text", "layout", "size"),
    [
        ("", Layout(), 88),
        ("exepath=4096", Layout(exepath=4096), 4184),
        (" cwd=1 , exepath=2", Layout(1, 2), 91),
        ("cwd", Layout(cwd=512), 600),
    ],
)
def test_chosen_members(text: str, layout: Layout, size: int) -> None:
    assert parse_layout(text) == layout
    assert layout.value_size == size


@pytest.mark.parametrize(
    "text",
    [
        "cwd=",
        "cwd=3",
        "cwd=8192",
        "cwd=-1",
        "cwd=a",
        "pwd=1",
        "pwd",
        "cwd=1=2",
        "cwd=99999",
        "cwd=0",
        "exepath=0",
        "cwd,cwd=1",
    ],
)
def test_wrong_members(text: str) -> None:
    with pytest.raises(UsageError, match="socket-enricher-fields"):
        parse_layout(text)


class FakeOwners:
    """In place of what is in the kernel."""

    def __init__(self, *_args: Any) -> None:
        self.map = object()
        self.closed = threading.Event()

    def start_ticking(self) -> None: ...

    def close(self) -> None:
        self.closed.set()


def test_only_for_gadgets_with_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not SocketEnricher().instantiate(Context(GadgetSpec("g", {})))
    made: list[tuple[Layout, int]] = []

    def acquire(layout: Layout, entries: int, _view: HostView) -> socket_owners.Lease:
        made.append((layout, entries))
        return make(layout, entries, FakeOwners())

    make = lease(monkeypatch)
    monkeypatch.setattr(socket_owners, "acquire", acquire)
    context = Context(GadgetSpec("g", {}, maps=[SOCKETS]))
    operator = SocketEnricher()
    assert operator.instantiate(context)
    assert not made
    load = LoadParts()
    operator.pre_start(context, load, Host(HostView()))
    assert made == [(Layout(512, 512), 16384)]
    assert load.value_sizes == {"gadget_sockets": 1112}
    assert [s.size for s in load.kernel_structs] == [1112]
    assert list(load.maps) == ["gadget_sockets"]
    operator.stop()
    operator.stop()


def lease(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Layout, int, FakeOwners], socket_owners.Lease]:
    shared: dict[Any, Any] = {}
    monkeypatch.setattr(socket_owners, "_shared", shared)

    def make(layout: Layout, entries: int, owners: Any) -> socket_owners.Lease:
        shared[layout, entries] = (owners, 1)
        return socket_owners.Lease((layout, entries), owners)

    return make


def test_a_kernel_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def acquire(*_args: Any) -> socket_owners.Lease:
        raise CoreError("unsupported", "no iterators", "")

    monkeypatch.setattr(socket_owners, "acquire", acquire)
    context = Context(GadgetSpec("g", {}, maps=[SOCKETS]))
    operator = SocketEnricher()
    operator.instantiate(context)
    load = LoadParts()
    operator.pre_start(context, load, Host(HostView()))
    assert "owners of sockets stay unknown: no iterators" in caplog.text
    assert load.value_sizes and not load.maps
    operator.stop()


def test_gadgets_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_owners, "_shared", {})
    made: list[FakeOwners] = []

    def make(*args: Any) -> Any:
        made.append(FakeOwners(*args))
        return made[-1]

    def acquire(layout: Layout) -> socket_owners.Lease:
        return socket_owners.acquire(layout, 16384, HostView(), make)

    first, second, other = acquire(Layout(1)), acquire(Layout(1)), acquire(Layout(2))
    assert first.owners is second.owners and len(made) == 2
    first.release()
    assert not made[0].closed.is_set()
    second.release()
    assert made[0].closed.wait(10) and not made[1].closed.is_set()
    third = acquire(Layout(1))
    assert len(made) == 3
    third.release()
    other.release()
    assert made[1].closed.wait(10) and made[2].closed.wait(10)


def test_owners_that_cannot_be_made_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_owners, "_shared", {})

    def fails(*_args: Any) -> Any:
        raise CoreError("load", "refused", "")

    for _ in range(2):
        with pytest.raises(CoreError):
            socket_owners.acquire(Layout(), 1, HostView(), fails)
    assert socket_owners._shared == {}


def some_types() -> bytes:
    btf = BtfWriter()
    btf.struct("known", 8, [])
    return btf.write()


def test_a_struct_is_added_to_types() -> None:
    members = [("number", 0, 8, 0), ("text", 8, 1, 16), ("last", 24, 4, 0)]
    made = btf_with_struct(some_types(), "added", 32, members)
    text = btf_to_c(made)
    assert "struct added {" in text and "unsigned char text[16];" in text
    assert "struct known {" in text
    assert "struct added {" not in btf_to_c(some_types())


@pytest.mark.parametrize(
    ("size", "members"),
    [
        (8, [("a", 4, 8, 0)]),
        (8, [("a", 0, 3, 0)]),
        (8, [("a", 0, 1, 9)]),
        (1 << 24, []),
        (8, [("a\0", 0, 1, 0)]),
        (4096, [(f"m{i}", i, 1, 0) for i in range(1025)]),
    ],
)
def test_impossible_structs(size: int, members: list[Any]) -> None:
    with pytest.raises(CoreError):
        btf_with_struct(some_types(), "added", size, members)


def test_no_types_at_all() -> None:
    with pytest.raises(CoreError, match="not a BTF blob"):
        btf_with_struct(b"", "added", 8, [])
