"""Print the import cycles of ``ig_py/`` and of ``core/src/``, between files and between folders.

``import_cycles.py [ROOT]``; a cycle is a set of files, or of folders below the root, of which each
reaches every other one by imports, also by those inside functions and those for annotations only.
Rust unit tests may import anything. Exit code 1 when there is any cycle.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Container, Iterator
from pathlib import Path

Graph = dict[str, set[str]]


def python_graph(root: Path, package: str) -> Graph:
    """Modules of *package* below *root* -> the modules of it that each imports."""
    modules = {_module(path, root): path for path in (root / package).rglob("*.py")}
    graph: Graph = {}
    for name, path in modules.items():
        wanted: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            wanted.update(_imported(node, name, path.name == "__init__.py", modules.keys()))
        graph[name] = wanted - {name}
    return graph


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(node: ast.AST, name: str, is_package: bool, known: Container[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)
    if isinstance(node, ast.ImportFrom):
        parts = name.split(".")
        up = node.level - 1 if is_package else node.level
        base = parts[: len(parts) - up] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            found = f"{source}.{alias.name}"
            if found in known:
                yield found
            elif source in known:
                yield source


_RUST_TESTS = re.compile(r"^#\[cfg\(test\)\]\n(?:pub )?mod \w+ \{.*", re.M | re.S)
_RUST_TEXT = re.compile(r'//[^\n]*|"(?:[^"\\]|\\.)*"', re.S)
_RUST_USE = re.compile(r"\buse\s+([^;]+);")
_RUST_PATH = re.compile(r"\b(?:crate|super|self)(?:::\w+)+")
_RUST_CHILD = re.compile(r"^(?:pub(?:\([^)]*\))? )?mod (\w+);", re.M)


def rust_graph(source: Path) -> Graph:
    """Modules of the crate in *source* -> the modules of it whose items each names."""
    modules: dict[str, Path] = {}
    for path in source.rglob("*.rs"):
        parts = list(path.relative_to(source).with_suffix("").parts)
        if parts[-1] in ("mod", "lib"):
            parts.pop()
        modules["::".join(["crate", *parts])] = path
    graph: Graph = {}
    for name, path in modules.items():
        text = _RUST_TEXT.sub("", _RUST_TESTS.sub("", path.read_text()))
        children = set(_RUST_CHILD.findall(text))
        named = [p for use in _RUST_USE.findall(text) for p in _expand(use)]
        named += _RUST_PATH.findall(_RUST_USE.sub("", text))
        wanted = {_resolve(path_, name, children, modules.keys()) for path_ in named}
        graph[name] = {module for module in wanted if module} - {name}
    return graph


def _expand(use: str) -> list[str]:
    """``a::{b, c::{d, e}}`` as single paths."""
    use = re.sub(r"\s+as\s+\w+", "", use)
    use = re.sub(r"\s+", "", use)
    if "{" not in use:
        return [use]
    head, _, rest = use.partition("{")
    paths, depth, part = [], 0, ""
    for char in rest:
        if char == "}" and depth == 0:
            break
        if char == "," and depth == 0:
            paths.append(part)
            part = ""
            continue
        depth += {"{": 1, "}": -1}.get(char, 0)
        part += char
    return [path for part in [*paths, part] if part for path in _expand(head + part)]


def _resolve(path: str, module: str, children: set[str], known: Container[str]) -> str | None:
    """The module that *path*, as *module* writes it, is in; None for other crates."""
    parts = path.split("::")
    if parts[0] == "crate":
        base = ["crate"]
        parts = parts[1:]
    elif parts[0] in ("super", "self") or parts[0] in children:
        base = module.split("::")
        while parts and parts[0] in ("super", "self"):
            if parts.pop(0) == "super":
                base.pop()
    else:
        return None
    for part in parts:
        if "::".join([*base, part]) not in known:
            break
        base.append(part)
    return "::".join(base)


def cycles(graph: Graph) -> list[list[str]]:
    """The strongly connected sets of more than one module, each sorted (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


def folders(graph: Graph, separator: str) -> Graph:
    """The same between the folders, and the files beside them, just below the root."""

    def folder(module: str) -> str:
        return separator.join(module.split(separator)[:2])

    found: Graph = {}
    for module, wanted in graph.items():
        inside = found.setdefault(folder(module), set())
        inside.update({folder(other) for other in wanted} - {folder(module)})
    return found


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[1]
    python, rust = python_graph(root, "ig_py"), rust_graph(root / "core/src")
    graphs = {
        "ig_py": python,
        "folders of ig_py": folders(python, "."),
        "core/src": rust,
        "folders of core/src": folders(rust, "::"),
    }
    count = 0
    for place, graph in graphs.items():
        found = cycles(graph)
        count += len(found)
        print(f"{place}: {len(graph)} modules, {len(found)} import cycles")
        for members in found:
            print(f"  {len(members)} modules:")
            for member in members:
                inside = sorted(graph[member] & set(members))
                print(f"    {member} -> {', '.join(inside)}")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
