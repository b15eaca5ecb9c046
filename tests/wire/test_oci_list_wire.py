"""``image list`` against what ``ig`` printed for the same images."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ig_py.cli import image_list
from ig_py.oci import gojson
from ig_py.oci.listing import Row

DATA = Path(__file__).parent / "data" / "image_list"


@pytest.mark.parametrize(("mode", "indent"), [("json", ""), ("jsonpretty", "  ")])
def test_json_modes(mode: str, indent: str) -> None:
    raw = (DATA / f"image_list_{mode}.out").read_bytes()
    assert gojson.dumps(json.loads(raw), indent=indent) == raw


def test_table(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Row(i["Repository"], i["Tag"], i["Digest"], i["Created"])
        for i in json.loads((DATA / "image_list_json.out").read_bytes())
    ]
    monkeypatch.setattr(image_list, "age", lambda *_: "39 minutes ago")
    expected = (DATA / "image_list_tty.out").read_text().splitlines()
    assert image_list._table(rows, 100)[: len(expected)] == expected


def test_narrow_table() -> None:
    rows = [Row("a-rather-long-name", "latest", "sha256:" + "ab" * 32, "")]
    assert image_list._table(rows, 36) == [
        "REPOSI… TAG     DIGEST       CREATED",
        "a-rath… latest  abababababab        ",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "less than a second ago"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "about a minute ago"),
        (14 * 60, "14 minutes ago"),
        (3600, "about an hour ago"),
        (3 * 3600, "3 hours ago"),
        (47 * 3600, "47 hours ago"),
        (48 * 3600, "2 days ago"),
        (14 * 86400, "2 weeks ago"),
        (60 * 86400, "2 months ago"),
        (800 * 86400, "2 years ago"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    now = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
    created = (now - timedelta(seconds=seconds)).isoformat()
    assert image_list.age(created, now) == text


@pytest.mark.parametrize("created", ["", "yesterday", "2026-11-23T05:27:26"])
def test_ages_that_cannot_be_told(created: str) -> None:
    assert image_list.age(created, datetime.now(UTC)) == ""
