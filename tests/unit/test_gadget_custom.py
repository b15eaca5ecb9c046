"""Custom parameters patch the metadata."""

from __future__ import annotations

from typing import Any

import pytest
from support.gadget_objects import spec_of, tracer_object

from ig_py.errors import LimitError, MetadataError, UsageError
from ig_py.gadget import custom as custom_module
from ig_py.gadget.custom import apply_custom
from ig_py.gadget.metadata import Metadata


def patched(custom: dict[str, Any], values: dict[str, str]) -> Metadata:
    document = {"name": "demo", "kept": {"a": 1}, "params": {"custom": custom}}
    metadata = Metadata(document)
    apply_custom(metadata, values)
    return metadata


def test_a_patch_is_merged_with_its_templates_filled() -> None:
    patch = {"Kept": {"B": '{{call .getParamValue "custom.n"}}s of {{call .getConfig "name"}}'}}
    metadata = patched({"n": {"patch": patch}}, {"custom.n": "3"})
    assert metadata.config["kept"] == {"a": 1, "b": "3s of demo"}


def test_the_patch_of_the_chosen_value_wins() -> None:
    custom = {
        "mode": {
            "patch": {"x": "any"},
            "values": {"Fast": {"patch": {"x": "fast"}}, "slow": {}},
        }
    }
    assert patched(custom, {"custom.mode": "FAST"}).text(["x"]) == "fast"
    assert patched(custom, {"custom.mode": "slow"}).text(["x"]) == "any"
    with pytest.raises(UsageError, match="must be one of fast, slow"):
        patched(custom, {"custom.mode": "other"})


def test_unset_changes_nothing() -> None:
    custom = {"n": {"patch": {"x": "y"}}}
    assert patched(custom, {"custom.n": ""}).get(["x"]) is None
    assert patched(custom, {}).get(["x"]) is None


def test_a_patch_cannot_change_the_custom_params() -> None:
    patch = {"params": {"custom": {"m": {"patch": {}}}, "ebpf": {"v": {"key": "k"}}}}
    metadata = patched({"n": {"patch": patch}}, {"custom.n": "1"})
    assert list(metadata.mapping(["params", "custom"])) == ["n"]
    assert metadata.text(["params", "ebpf", "v", "key"]) == "k"


@pytest.mark.parametrize("text", ["{{getParamValue}}", "{{.x}}", "{{range .}}{{end}}", "{{}}"])
def test_other_templates_are_refused(text: str) -> None:
    with pytest.raises(MetadataError, match="not supported"):
        patched({"n": {"patch": {"x": text}}}, {"custom.n": "1"})


def test_texts_cannot_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_module, "MAX_TEXT", 10)
    with pytest.raises(LimitError):
        patched(
            {"n": {"patch": {"x": '{{call .getParamValue "custom.n"}}' * 3}}}, {"custom.n": "12345"}
        )


def test_annotations_come_after() -> None:
    patch = {"datasources": {"ds": {"annotations": {"k": "patch", "l": "patch"}}}}
    spec = spec_of(
        tracer_object(lambda btf: []),
        {"params": {"custom": {"n": {"patch": patch}}}},
        values={"custom.n": "1"},
        annotations=["ds:k=flag"],
    )
    assert spec.datasources[0].annotations == {"k": "flag", "l": "patch"}
