"""The socket enricher's struct, and types added to those of a kernel."""

from __future__ import annotations

from typing import Any

import pytest
from support.elf_writer import BtfWriter

from ig_py._core import CoreError, btf_to_c, btf_with_struct
from ig_py.errors import UsageError
from ig_py.gadget.spec import GadgetSpec, MapSpec
from ig_py.operators.base import Context
from ig_py.operators.socket_enricher import Layout, SocketEnricher, parse_layout

SOCKETS = MapSpec("gadget_sockets", 1, 12, 8280, 16384)


def test_the_usual_struct() -> None:
    struct = parse_layout("cwd=512,exepath=512").struct()
    assert (struct.name, struct.size) == ("gadget_socket_value", 1112)
    places = {name: (offset, width * (count or 1)) for name, offset, width, count in struct.members}
    assert places["ipv6only"] == (80, 1)
    assert places["cwd"] == (88, 512)
    assert places["exepath"] == (600, 512)


@pytest.mark.parametrize(
    ("text", "layout", "size"),
    [
        ("", Layout(), 88),
        ("exepath=4096", Layout(exepath=4096), 4184),
        (" cwd=1 , exepath=2", Layout(1, 2), 91),
    ],
)
def test_chosen_members(text: str, layout: Layout, size: int) -> None:
    assert parse_layout(text) == layout
    assert layout.struct().size == size


@pytest.mark.parametrize(
    "text", ["cwd", "cwd=0", "cwd=3", "cwd=8192", "cwd=-1", "pwd=1", "cwd=1=2"]
)
def test_wrong_members(text: str) -> None:
    with pytest.raises(UsageError, match="socket-enricher-fields"):
        parse_layout(text)


def test_only_for_gadgets_with_the_map() -> None:
    assert not SocketEnricher().instantiate(Context(GadgetSpec("g", {})))
    context = Context(GadgetSpec("g", {}, maps=[SOCKETS]))
    operator = SocketEnricher()
    assert operator.instantiate(context)
    operator.pre_start(context)
    assert context.value_sizes == {"gadget_sockets": 1112}
    assert [s.size for s in context.kernel_structs] == [1112]


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
