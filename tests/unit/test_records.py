"""``ig_py.records`` behaves as the standard library's data classes, for what it has."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest

import ig_py
from ig_py import records

Module = Any


def _classes(module: Module) -> tuple[type, type, type]:
    dataclass, field = module.dataclass, module.field

    @dataclass
    class Plain:
        name: str
        size: int = 3
        tags: list[str] = field(default_factory=list)
        secret: str = field(default="s", repr=False)
        shared: ClassVar[int] = 7

    @dataclass(frozen=True)
    class Frozen:
        name: str
        size: int = 3

        @property
        def double(self) -> int:
            return 2 * self.size

    @dataclass(frozen=True, slots=True)
    class Slots:
        name: str
        size: int = 3

        def __repr__(self) -> str:
            return f"<{self.name}>"

    return Plain, Frozen, Slots


BOTH = pytest.mark.parametrize("module", [dataclasses, records], ids=["standard", "ours"])


@BOTH
def test_values_and_defaults(module: Module) -> None:
    plain, frozen, slots = _classes(module)
    one, other = plain("a", tags=["x"]), plain(name="a")
    assert (one.name, one.size, one.tags, one.secret, one.shared) == ("a", 3, ["x"], "s", 7)
    assert other.tags == [] and other.tags is not plain("b").tags
    assert frozen("a", 4).double == 8
    assert (slots("a").size, slots("a", size=9).size) == (3, 9)
    assert plain.size == 3 and not hasattr(plain, "tags")


@BOTH
@pytest.mark.parametrize(
    ("args", "named"),
    [((), {}), (("a", 1, [], "s", 5), {}), (("a",), {"name": "b"}), (("a",), {"other": 1})],
    ids=["missing", "too many", "twice", "unknown"],
)
def test_refuses_wrong_values(module: Module, args: Any, named: Any) -> None:
    with pytest.raises(TypeError):
        _classes(module)[0](*args, **named)


@BOTH
def test_text_and_comparison(module: Module) -> None:
    plain, frozen, slots = _classes(module)
    assert repr(plain("a")).endswith("Plain(name='a', size=3, tags=[])")
    assert repr(slots("a")) == "<a>"
    assert plain("a") == plain("a") != plain("a", secret="t")
    assert frozen("a") != slots("a")
    assert len({frozen("a"), frozen("a"), frozen("b")}) == 2
    with pytest.raises(TypeError):
        hash(plain("a"))


@BOTH
def test_frozen_stays_as_it_is(module: Module) -> None:
    _, frozen, slots = _classes(module)
    for instance in (frozen("a"), slots("a")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            instance.name = "b"
        with pytest.raises(dataclasses.FrozenInstanceError):
            del instance.name
        assert instance.name == "a"
    assert not hasattr(slots("a"), "__dict__")


@BOTH
def test_copies(module: Module) -> None:
    for cls in _classes(module):
        instance = cls("a", 5)
        assert copy.copy(instance) == copy.deepcopy(instance) == instance
        assert module.replace(instance, name="b") == cls("b", 5)
        assert dataclasses.replace(instance, name="b") == cls("b", 5)
        assert dataclasses.is_dataclass(instance)
        assert dataclasses.asdict(instance)["size"] == 5


def test_they_are_used_everywhere() -> None:
    standard = re.compile(r"^\s*(from|import) dataclasses\b", re.MULTILINE)
    package = Path(ig_py.__file__).parent
    users = [p.name for p in package.rglob("*.py") if standard.search(p.read_text())]
    assert users == ["records.py"], "import from ig_py.records: dataclasses slow down every start"
