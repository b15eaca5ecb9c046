"""--update-metadata: what is added, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.tiny_gadget import PROGRAM, write_gadget

from ig_py.errors import BuildError, IgPyError, MetadataError
from ig_py.toolchain.build import build_gadget
from ig_py.toolchain.options import BuildOptions

pytestmark = pytest.mark.needs("clang")

AUTHORS = """\
# Kept: the author's comment
name: tiny   # and this one
later: {unknown: [1, 2]}

datasources:
  # a data source
  ticks:
    annotations:
      cli.clear-screen-before: "true"
    fields:
      pid:
        annotations:
          template: 'pid'
          description: >-
            folded text
            of two lines
params:
  ebpf:
    limit:
      key: max
      typeHint: uint32   # kept too
programs:
  on_enter:
    fields:
    - a
    - "b"
"""


def update(directory: Path, metadata: str | None) -> str:
    gadget = write_gadget(directory, metadata=metadata)
    build_gadget(BuildOptions(gadget, update_metadata=True))
    return (gadget / "gadget.yaml").read_text()


def test_a_new_file(tmp_path: Path) -> None:
    document = yaml.safe_load(update(tmp_path / "g", None))
    assert list(document) == [
        "name",
        "description",
        "homepageURL",
        "documentationURL",
        "sourceURL",
        "datasources",
        "params",
    ]
    assert all(document[key].startswith("TODO: ") for key in list(document)[:5])
    sources = document["datasources"]
    assert {name: list(s["fields"]) for name, s in sources.items()} == {
        "ticks": ["timestamp_raw", "pid", "comm"],
        "totals": ["cpu", "count"],
    }
    assert sources["ticks"]["fields"]["pid"]["annotations"]["description"].startswith("TODO: ")
    # The parameters of the API headers keep their own flags and texts.
    assert list(document["params"]["ebpf"]) == ["limit"]
    limit = document["params"]["ebpf"]["limit"]
    assert (limit["key"], limit["defaultValue"]) == ("limit", "")
    assert limit["description"].startswith("TODO: ")


def test_the_authors_text_stays(tmp_path: Path) -> None:
    text = update(tmp_path / "g", AUTHORS)
    kept = iter(text.splitlines())
    for line in AUTHORS.splitlines():
        assert line in kept, f"{line!r} is gone or moved"
    document = yaml.safe_load(text)
    assert document["name"] == "tiny"
    assert document["description"].startswith("TODO: ")
    assert list(document["datasources"]["ticks"]["fields"]) == ["pid", "timestamp_raw", "comm"]
    assert document["params"]["ebpf"]["limit"] == {"key": "max", "typeHint": "uint32"}


def test_twice_is_once(tmp_path: Path) -> None:
    first = update(tmp_path / "g", AUTHORS)
    assert update(tmp_path / "g", first) == first


def test_the_root_gadget_is_complete_but_for_its_pages(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    gadget = tmp_path / "g"
    gadget.mkdir()
    (gadget / "program.bpf.c").write_bytes((root / "program.bpf.c").read_bytes())
    before = (root / "gadget.yaml").read_text()
    (gadget / "gadget.yaml").write_text(before)
    build_gadget(BuildOptions(gadget, update_metadata=True))
    after = (gadget / "gadget.yaml").read_text().splitlines()
    added = [line for line in after if line not in before.splitlines()]
    assert [line for line in added if "URL: " not in line and line.strip() not in (
        "proc:", "annotations:",
    ) and "TODO" not in line] == []  # fmt: skip
    assert [line for line in before.splitlines() if line not in after] == []


def test_keys_in_any_case_are_found(tmp_path: Path) -> None:
    text = "name: x\ndataSources:\n  ticks:\n    fields:\n      PID:\n"
    document = yaml.safe_load(update(tmp_path / "g", text))
    assert "datasources" not in document
    assert list(document["dataSources"]["ticks"]["fields"]) == ["PID", "timestamp_raw", "comm"]


def test_the_image_has_the_new_metadata(tmp_path: Path) -> None:
    gadget = write_gadget(tmp_path / "g", metadata=AUTHORS)
    image = build_gadget(BuildOptions(gadget, update_metadata=True))
    assert (gadget / "gadget.yaml").read_bytes() in image.blobs.values()


def test_a_wrong_file_is_not_touched(tmp_path: Path) -> None:
    text = "name: [a]\n"
    gadget = write_gadget(tmp_path / "g", metadata=text)
    with pytest.raises(MetadataError, match=r"gadget\.yaml:1: name"):
        build_gadget(BuildOptions(gadget, update_metadata=True, validate_metadata=False))
    assert (gadget / "gadget.yaml").read_text() == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("GADGET_PARAM(not_const);", "'not_const' is not const"),
        ("GADGET_PARAM(nowhere);", "nowhere"),
        ("GADGET_TRACER(other, no_map, event);", "no_map"),
    ],
)
def test_markers_that_make_no_sense(tmp_path: Path, line: str, message: str) -> None:
    gadget = write_gadget(tmp_path / "g")
    before = (gadget / "gadget.yaml").read_text()
    (gadget / "program.bpf.c").write_text(f"{PROGRAM}\n{line}\n")
    with pytest.raises(IgPyError, match=message):
        build_gadget(BuildOptions(gadget, update_metadata=True))
    assert (gadget / "gadget.yaml").read_text() == before


def test_without_a_program(tmp_path: Path) -> None:
    (tmp_path / "gadget.yaml").write_text("name: x\n")
    with pytest.raises(BuildError, match="the gadget has no eBPF object"):
        build_gadget(BuildOptions(tmp_path, update_metadata=True))
