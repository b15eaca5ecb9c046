"""References lead somewhere: every page, heading and path that is cited exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SKIPPED = frozenset(
    {".git", ".venv", ".cache", "target", "corpus", "dist", "out", "data", "LICENSES"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__"}
)
CODE = frozenset({".py", ".pyi", ".rs", ".c", ".h", ".toml", ".json", ".yaml", ".yml"})
NAMES = frozenset({"Makefile", "Dockerfile"})

CITED = re.compile(r"(?<![\w/.-])(docs/[\w/.-]+?\.md|[A-Z]{4,}\.md)(#[\w-]+)?")
"""``docs/page.md#heading`` in code: a path from the checkout's root."""
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^()\s]+)\)")
"""``[text](target)`` in Markdown: relative to the page."""
NAMED = re.compile(
    r"(?<![\w/.$~:-])((?:bench|build|core|docs|ig_py|parity|scripts|tests)/[\w./*…{}<>-]+)"
)
"""``core/src/lib.rs`` in a page: a path from the checkout's root."""
PATTERN = re.compile(r"[*…{}<>]|NAME")
"""A path with one of these stands for many."""
MADE = frozenset({"bench/out.json", "parity/out"})
"""Paths that commands make; .gitignore has them."""
UNPUBLISHED = re.compile("\\bspec [\\w, -]*\u00a7")
"""A citation of a document that readers do not have."""


def _files() -> Iterator[Path]:
    for path in sorted(ROOT.iterdir()):
        yield from _below(path)


def _below(path: Path) -> Iterator[Path]:
    if path.name in SKIPPED or path.is_symlink():
        return
    if path.is_dir():
        for child in sorted(path.iterdir()):
            yield from _below(child)
    elif path.suffix in CODE | {".md"} or path.name in NAMES or path.parent.name == "scripts":
        yield path


def _pages() -> list[Path]:
    return [path for path in _files() if path.suffix == ".md"]


def slug(heading: str) -> str:
    """The anchor that a forge gives a heading: lower case, no punctuation, dashes for spaces."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    found: set[str] = set()
    fenced = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and (heading := re.fullmatch(r"#{1,6} (.*)", line)):
            found.add(slug(heading[1]))
    return frozenset(found)


def missing(page: Path, anchor: str) -> str:
    """Why *page* with the heading *anchor* (empty: any) cannot be cited; empty when it can."""
    if not page.exists():
        return "no such file"
    if anchor and (page.is_dir() or anchor not in anchors(page)):
        return f"no heading {anchor!r}"
    return ""


def cited_wrongly(text: str) -> list[str]:
    """What code cites that is not there."""
    return [
        f"{match[0]}: {why}"
        for match in CITED.finditer(text)
        if (why := missing(ROOT / match[1], (match[2] or "").removeprefix("#")))
    ]


def linked_wrongly(text: str, page: Path) -> list[str]:
    """Links of *page* that lead nowhere."""
    found = []
    for target in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        where = (page.parent / path).resolve() if path else page
        if why := missing(where, anchor):
            found.append(f"{target}: {why}")
    return found


def named_wrongly(text: str) -> list[str]:
    """Paths of this checkout that *text* names and that are not there."""
    paths = (match[1].rstrip("./") for match in NAMED.finditer(text))
    return [
        path
        for path in paths
        if path not in MADE and not PATTERN.search(path) and not (ROOT / path).exists()
    ]


def test_there_is_something_to_check() -> None:
    cited = sum(len(CITED.findall(path.read_text(errors="replace"))) for path in _files())
    named = sum(len(NAMED.findall(page.read_text())) for page in _pages())
    assert len(_pages()) > 20
    assert cited > 80
    assert named > 100


@pytest.mark.parametrize("folder", ["ig_py", "core", "build", "tests", "scripts", "docs", "."])
def test_cited_pages_and_headings_exist(folder: str) -> None:
    paths = (ROOT / folder).iterdir() if folder == "." else [ROOT / folder]
    files = [f for p in paths if folder != "." or p.is_file() for f in _below(p)]
    assert files
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in files
        if path != Path(__file__) and (found := cited_wrongly(path.read_text(errors="replace")))
    }
    assert not wrong


def test_links_between_pages_lead_somewhere() -> None:
    wrong = {
        str(page.relative_to(ROOT)): found
        for page in _pages()
        if (found := linked_wrongly(page.read_text(), page))
    }
    assert not wrong


def test_paths_that_pages_name_exist() -> None:
    wrong = {
        str(page.relative_to(ROOT)): found
        for page in _pages()
        if (found := named_wrongly(page.read_text()))
    }
    assert not wrong


def test_no_unpublished_document_is_cited() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in _files()
        if path != Path(__file__) and UNPUBLISHED.search(path.read_text(errors="replace"))
    ]
    assert not wrong


def test_dangling_references_are_found() -> None:
    assert cited_wrongly("(docs/nosuch.md)") == ["docs/nosuch.md: no such file"]
    assert cited_wrongly("docs/plan.md#nosuch.") == ["docs/plan.md#nosuch: no heading 'nosuch'"]
    assert not cited_wrongly("docs/plan.md#arrays, docs/plan.md")
    page = ROOT / "docs/plan.md"
    assert linked_wrongly("[x](nosuch.md) [y](#nosuch) [z](https://x.example/a.md)", page) == [
        "nosuch.md: no such file",
        "#nosuch: no heading 'nosuch'",
    ]
    assert not linked_wrongly("[x](../README.md#use) [y](captures.md) [z](#arrays)", page)
    assert named_wrongly("`ig_py/nosuch.py` and core/src/nosuch/.") == [
        "ig_py/nosuch.py",
        "core/src/nosuch",
    ]
    assert not named_wrongly("`ig_py/cli/_run.py`, tests/unit/test_NAME.py, x/core/y")
    assert not named_wrongly("written to bench/out.json")
    assert UNPUBLISHED.search("as the spec oci-metadata \u00a72 says")


def test_slugs() -> None:
    assert slug("gadget.yaml") == "gadgetyaml"
    assert slug("Streams, exit codes and signals") == "streams-exit-codes-and-signals"
    assert slug("`run`: [modes](x.md)") == "run-modes"
