"""Docstrings name the errors that are raised in one way: a ``Raises:`` section."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ig_py

ROOT = Path(ig_py.__file__).parent
STUB = ROOT / "_core.pyi"
MODULES = [*sorted(p for p in ROOT.rglob("*.py") if not p.name.endswith("_pb2.py")), STUB]
OTHERWISE = re.compile(
    r":raises|\bRaises? (:class:|`|[A-Z_]\w*)|:class:`\w*Error` (for|when|if|where|says)\b"
)
ENTRY = re.compile(r"    (\w+): \S.*")


def docstrings(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """(name, lines) of everything that has a docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", "the module"), text.splitlines()


def section(lines: list[str]) -> list[str]:
    """The lines of the section ``Raises:``."""
    if "Raises:" not in lines:
        return []
    rest = lines[lines.index("Raises:") + 1 :]
    end = next((i for i, line in enumerate(rest) if not line.startswith("    ")), len(rest))
    return rest[:end]


def known_errors() -> set[str]:
    """Names of the exceptions of Python, and of classes of ig_py that are exceptions."""
    found = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    classes = [
        node
        for path in (*ROOT.rglob("*.py"), STUB)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    size = -1
    while size != len(found):
        size = len(found)
        found |= {
            node.name
            for node in classes
            if any(ast.unparse(base).split(".")[-1] in found for base in node.bases)
        }
    return found


KNOWN = known_errors()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_raises(path: Path) -> None:
    for name, lines in docstrings(ast.parse(path.read_text())):
        assert not OTHERWISE.search("\n".join(lines)), name
        entries = section(lines)
        assert bool(entries) == ("Raises:" in lines), f"{name}: nothing below Raises:"
        for line in entries:
            if line.startswith("     "):
                continue
            entry = ENTRY.fullmatch(line)
            assert entry, f"{name}: {line!r} is not 'Class: When.'"
            assert entry[1] in KNOWN, f"{name}: {entry[1]} is no exception"
        text = "\n".join(entries)
        assert not text or text.endswith("."), f"{name}: no sentence"
