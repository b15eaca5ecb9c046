"""build.yaml: which files belong to a gadget."""

from __future__ import annotations

from pathlib import Path

import pytest

from ig_py.errors import BuildError, MetadataError
from ig_py.toolchain.buildfile import BuildFile, read_build_file


@pytest.fixture
def gadget(tmp_path: Path) -> Path:
    (tmp_path / "program.bpf.c").touch()
    return tmp_path


def read(root: Path, text: str | None = None, file: str | None = None) -> BuildFile:
    if text is not None:
        (root / "build.yaml").write_text(text)
    return read_build_file(root, file, lambda _: None)


def test_no_build_file(gadget: Path) -> None:
    assert read(gadget) == BuildFile("program.bpf.c", None, "gadget.yaml")


def test_everything_named(gadget: Path) -> None:
    for name in ("a.c", "m.wasm"):
        (gadget / name).touch()
    text = "ebpfsource: a.c\nwasm: m.wasm\nmetadata: other.yaml\n"
    assert read(gadget, text) == BuildFile("a.c", "m.wasm", "other.yaml")


def test_an_empty_build_file(gadget: Path) -> None:
    assert read(gadget, "# nothing yet\n").ebpf_source == "program.bpf.c"


def test_unknown_keys_are_told_and_ignored(gadget: Path) -> None:
    (gadget / "build.yaml").write_text("metadata: g.yaml\ncflags: -O0\n")
    told: list[str] = []
    assert read_build_file(gadget, None, told.append).metadata == "g.yaml"
    assert len(told) == 1
    assert "build.yaml:2: unknown key 'cflags' ignored" in told[0]


def test_metadata_alone_is_a_gadget(tmp_path: Path) -> None:
    (tmp_path / "gadget.yaml").write_text("name: x\n")
    assert read(tmp_path) == BuildFile(None, None, "gadget.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ebpfsource: none.c", "source file 'none.c' not found"),
        ("ebpfsource: ''", "source file '' not found"),
        ("wasm: none.wasm", "wasm file 'none.wasm' not found"),
        ("wasm: notes.txt", "unsupported wasm file type: notes.txt"),
    ],
)
def test_missing_files(gadget: Path, text: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        read(gadget, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nwasm: -x.wasm", "build.yaml:2: flags are not accepted: '-x.wasm'"),
        ("ebpfsource: '  -include'", "build.yaml:1: flags are not accepted: '-include'"),
        ("wasm: '@x.wasm'", "build.yaml:1: response files are not accepted: '@x.wasm'"),
        ("metadata: [a]", "build.yaml:1: metadata must be a path"),
        ("- a", "build.yaml:1: a build file is a mapping"),
        ("a: [", "build.yaml:2: "),
    ],
)
def test_mistakes_have_lines(gadget: Path, text: str, message: str) -> None:
    with pytest.raises(MetadataError) as failure:
        read(gadget, text)
    assert message in str(failure.value)


def test_nothing_to_build(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="nothing to build"):
        read(tmp_path)


def test_an_explicit_file_must_exist(gadget: Path) -> None:
    with pytest.raises(BuildError, match=r"reading build file .*other\.yaml: No such file"):
        read(gadget, file=str(gadget / "other.yaml"))


def test_an_explicit_file_may_be_elsewhere(gadget: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.yaml"
    other.write_text("metadata: m.yaml\n")
    assert read(gadget, file=str(other)).metadata == "m.yaml"
