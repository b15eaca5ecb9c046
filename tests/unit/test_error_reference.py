"""The tree in ig_py.errors and docs/errors.md have every class of errors, and no other."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import ig_py
from ig_py import errors

PAGE = Path(__file__).parent.parent.parent / "docs/errors.md"
SECTION = re.compile(r"^#{2,3} (\w+)\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)


def _classes(root: type[errors.IgPyError] = errors.IgPyError) -> set[str]:
    """Names of all that is derived from *root*, wherever ig_py defines it."""
    found: set[str] = set()
    for cls in root.__subclasses__():
        if cls.__module__.split(".")[0] == ig_py.__name__:
            found |= {cls.__name__} | _classes(cls)
    return found


def _import_everything() -> None:
    for module in pkgutil.walk_packages(ig_py.__path__, "ig_py."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_every_class_is_there_and_no_other() -> None:
    _import_everything()
    sections = [name for name, _ in SECTION.findall(PAGE.read_text())]
    assert len(sections) == len(set(sections))
    assert set(sections) == _classes()


def test_each_has_an_example_and_says_what_to_do() -> None:
    sections = SECTION.findall(PAGE.read_text())
    assert sections
    for name, text in sections:
        when, *rest = re.split(r"\n\n(?=    \S)", text.strip("\n"), maxsplit=1)
        assert when.strip(), name
        assert rest, f"{name} has no example"
        after = [line for line in rest[0].splitlines() if line and not line.startswith("    ")]
        assert after, f"{name} does not say what to do"


def test_subclasses_stand_below_their_class() -> None:
    _import_everything()
    order = re.findall(r"^(##|###) (\w+)$", PAGE.read_text(), re.MULTILINE)
    direct = {cls.__name__ for cls in errors.IgPyError.__subclasses__()}
    above = ""
    for level, name in order:
        if level == "##":
            above = name
            assert name in direct
        else:
            assert name in _classes(getattr(errors, above)), f"{name} below {above}"


def test_the_tree_that_is_drawn_is_the_tree() -> None:
    _import_everything()
    drawn: list[tuple[str, str, str]] = []
    above: list[str] = []
    for line in str(errors.__doc__).splitlines():
        node = re.fullmatch(r"    ((?:│   |    )*)([├└]── )?(\w+)(?: +([\w.]+))?", line)
        if node is None:
            continue
        depth = len(node[1]) // 4 + bool(node[2])
        drawn.append((above[depth - 1] if depth else "", node[3], node[4] or errors.__name__))
        above[depth:] = [node[3]]
    assert drawn[0] == ("", "IgPyError", errors.__name__)
    assert sorted(drawn[1:]) == sorted(_tree(errors.IgPyError))


def _tree(root: type[errors.IgPyError]) -> list[tuple[str, str, str]]:
    """(base class, class, module) of all that is derived from *root*."""
    found = []
    for cls in root.__subclasses__():
        if cls.__module__.split(".")[0] == ig_py.__name__:
            found += [(root.__name__, cls.__name__, cls.__module__), *_tree(cls)]
    return found
