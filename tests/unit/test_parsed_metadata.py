"""Metadata that is kept as it was parsed: what is read of it, and what never is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.images import CREATED, name

from ig_py.gadget.load import load_gadget
from ig_py.gadget.metadata import Metadata
from ig_py.oci import parsed
from ig_py.oci.artifact import Artifact
from ig_py.oci.options import ResolveOptions
from ig_py.oci.pack import GadgetFiles, pack
from ig_py.oci.parsed import ParsedMetadata
from ig_py.oci.store import Store
from ig_py.resolver import resolve

RAW = b"name: a\nparams: {x: 1}\n"
DOCUMENT = {"name": "a", "params": {"x": 1, "deep": [None, True, 1.5, "\x1b"]}}


@pytest.fixture
def kept(tmp_path: Path) -> ParsedMetadata:
    found = ParsedMetadata(tmp_path)
    found.put(RAW, DOCUMENT)
    return found


def file(root: Path) -> Path:
    (found,) = (root / parsed.DIRECTORY).iterdir()
    return found


def test_what_is_kept_is_found_by_the_metadata_alone(kept: ParsedMetadata, tmp_path: Path) -> None:
    assert kept.get(RAW) == DOCUMENT
    assert kept.get(RAW + b"\n") is None
    assert file(tmp_path).stat().st_mode & 0o777 == 0o600


def writable(path: Path) -> None:
    path.chmod(0o620)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def of_another(path: Path) -> None:
    text = json.loads(path.read_text())
    text["of"][0] = text["of"][0][:-1] + "0"
    path.write_text(json.dumps(text))


def of_another_version(path: Path) -> None:
    text = json.loads(path.read_text())
    text["of"][1] += "+other"
    path.write_text(json.dumps(text))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def no_mapping(path: Path) -> None:
    path.write_text("[1]")


def endless(path: Path) -> None:
    path.write_text("[" * 10_000)


def device(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def large(path: Path) -> None:
    path.write_text(path.read_text() + " " * parsed.MAX_BYTES)


@pytest.mark.parametrize(
    "harm",
    [
        *(writable, linked, of_another, of_another_version, cut),
        *(empty, no_mapping, endless, device, large),
    ],
)
def test_another_file_is_not_read(
    kept: ParsedMetadata, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    harm(file(tmp_path))
    assert kept.get(RAW) is None


@pytest.mark.needs("root")
def test_a_file_of_another_user_is_not_read(kept: ParsedMetadata, tmp_path: Path) -> None:
    os.chown(file(tmp_path), 12345, -1)
    assert kept.get(RAW) is None


@pytest.mark.parametrize("value", [math.nan, "x" * parsed.MAX_BYTES])
def test_what_would_change_or_is_large_is_not_kept(tmp_path: Path, value: Any) -> None:
    kept = ParsedMetadata(tmp_path)
    kept.put(RAW, {"value": value})
    assert kept.get(RAW) is None
    assert not (tmp_path / parsed.DIRECTORY).exists()


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsed, "MAX_FILES", 5)
    kept = ParsedMetadata(tmp_path)
    for number in range(12):
        kept.put(b"%d" % number, DOCUMENT)
        assert kept.get(b"%d" % number) == DOCUMENT
        assert len(list((tmp_path / parsed.DIRECTORY).iterdir())) <= 5


def test_a_directory_that_leads_elsewhere_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / parsed.DIRECTORY).symlink_to("elsewhere")
    kept = ParsedMetadata(tmp_path)
    kept.put(RAW, DOCUMENT)
    assert kept.get(RAW) is None
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    kept = ParsedMetadata(tmp_path / "absent")
    kept.put(RAW, DOCUMENT)
    assert kept.get(RAW) is None


def resolved(tmp_path: Path) -> Artifact:
    options = ResolveOptions(
        store=Store(tmp_path), pull="never", verify_image=False, on_message=lambda _text: None
    )
    return resolve("a:v1", options)


def test_an_image_of_the_store_is_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"amd64": GadgetFiles(), "arm64": GadgetFiles()}
    packed = pack(files, RAW, builder_version="v0.1.0", created=CREATED)
    Store(tmp_path).add(packed, name("a:v1"))
    first = load_gadget(resolved(tmp_path))

    def parse(_raw: bytes, _source: str) -> Metadata:
        pytest.fail("it is parsed again")

    monkeypatch.setattr(Metadata, "parse", parse)
    second = load_gadget(resolved(tmp_path))
    assert second.metadata == first.metadata == {"name": "a", "params": {"x": 1}}
