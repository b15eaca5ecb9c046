"""What a test lacks: a skip that says so, or a failure where it is required."""

from __future__ import annotations

import pytest
from support import features


@pytest.mark.parametrize("required", ["", "root", "clang,root"])
def test_a_missing_feature_is_a_skip(monkeypatch: pytest.MonkeyPatch, required: str) -> None:
    monkeypatch.setenv("IG_PY_REQUIRE", required)
    with pytest.raises(pytest.skip.Exception, match="needs engine: it ended"):
        features.lack("engine", "it ended")


@pytest.mark.parametrize("required", ["1", "engine", "root,engine"])
def test_a_missing_required_feature_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, required: str
) -> None:
    monkeypatch.setenv("IG_PY_REQUIRE", required)
    with pytest.raises(pytest.fail.Exception, match=r"engine is required .*: it ended"):
        features.lack("engine", "it ended")


def test_names_are_known() -> None:
    with pytest.raises(KeyError):
        features.lack("enigne", "")
    with pytest.raises(KeyError):
        features.need("enigne")


def test_a_feature_that_is_there_ends_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(features._PROBES, "engine", lambda: None)
    features.need("engine")
    monkeypatch.setitem(features._PROBES, "engine", lambda: "not installed")
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        features.need("engine", "root")
