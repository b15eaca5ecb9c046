"""The root gadget's diagrams: the object's, the document's and the given ones are the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import root_spec

from ig_py.errors import UsageError
from ig_py.gadget.elf import Elf
from ig_py.inspect.docs import DOCUMENT, main, replace_diagrams
from ig_py.inspect.program_graph import ProgramGraph

DATA = Path(__file__).parent / "data" / "trace_exec"
FLOWCHART = (DATA / "flowchart.mermaid").read_text()
SEQUENCE = (DATA / "sequence.mermaid").read_text()


def document() -> str:
    return (root_spec.CHECKOUT / DOCUMENT).read_text(encoding="utf-8")


def test_the_document_holds_the_given_diagrams() -> None:
    blocks = re.findall(r"^```mermaid\n(.*?)^```$", document(), re.MULTILINE | re.DOTALL)
    assert blocks == [FLOWCHART, SEQUENCE]


@pytest.mark.needs("clang")
def test_the_object_gives_the_given_diagrams() -> None:
    graph = ProgramGraph(Elf(root_spec.object_bytes()))
    assert (graph.flowchart(), graph.sequence()) == (FLOWCHART, SEQUENCE)


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    path = tmp_path / "gadget.o"
    path.write_bytes(root_spec.object_bytes())
    return path


@pytest.mark.needs("clang")
def test_the_document_is_not_stale(compiled: Path) -> None:
    assert main(["--check", "--object", str(compiled), str(root_spec.CHECKOUT)]) == 0


@pytest.mark.needs("clang")
def test_a_stale_document_is_told_and_written_anew(
    tmp_path: Path, compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / DOCUMENT
    copy.write_text(
        document().replace('-- "EventOutput" -->', '-- "Whisper" -->'), encoding="utf-8"
    )
    arguments = ["--object", str(compiled), str(tmp_path)]
    assert main(["--check", *arguments]) == 1
    assert "stale" in capsys.readouterr().err
    assert main(["--write", *arguments]) == 0
    assert copy.read_text(encoding="utf-8") == document()
    assert main(["--check", *arguments]) == 0


@pytest.mark.needs("clang")
def test_a_document_without_the_blocks() -> None:
    graph = ProgramGraph(Elf(root_spec.object_bytes()))
    with pytest.raises(UsageError, match="Sequence Diagram"):
        replace_diagrams("### Flowchart\n\n```mermaid\n```\n\n### Sequence\n", graph)


def test_a_missing_object_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.o")
    assert main(["--check", "--object", missing, str(root_spec.CHECKOUT)]) == 1
    assert "none.o" in capsys.readouterr().err
