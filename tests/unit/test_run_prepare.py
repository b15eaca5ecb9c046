"""From an artifact to what can be run: custom parameters, wasm layers, gadgets without programs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import yaml
from support.gadget_runner import artifact

from ig_py.errors import MetadataError, ObjectError, UsageError
from ig_py.oci import media
from ig_py.oci.artifact import Artifact
from ig_py.records import replace
from ig_py.runtime.prepare import prepare, read
from ig_py.version import user_version

PROCESSES: dict[str, Any] = {
    "operator": {"process": {"emitstats": True, "interval": "9s"}},
    "params": {
        "custom": {
            "interval": {
                "defaultValue": "3s",
                "patch": {
                    "operator": {
                        "process": {"interval": '{{call .getParamValue "custom.interval"}}'}
                    }
                },
            },
            "mode": {
                "values": {"short": {"patch": {"operator": {"process": {"fields": ["uid"]}}}}},
            },
        }
    },
}


def metadata_only(**metadata: Any) -> Artifact:
    return artifact("x", yaml.safe_dump(metadata).encode(), None)


def test_custom_parameters_patch_the_metadata() -> None:
    gadget = read(metadata_only(**PROCESSES), annotate=("processes.pid:columns.width=9",))
    [ds] = gadget.info.datasources
    assert ds.annotations["fetch-interval"] == "9s"
    for given, interval, fields in (
        ({}, "3s", 19),
        ({"custom.interval": "500ms", "custom.mode": "short"}, "500ms", 3),
    ):
        prepared = prepare(gadget, given)
        [ds] = prepared.spec.datasources
        assert ds.annotations["fetch-interval"] == interval
        own = [ds.fields[index] for index in ds.pushed]
        assert len(own) == fields
        assert own[0].annotations["columns.width"] == "9"
        assert prepared.elf is None
    with pytest.raises(MetadataError, match="'soon' is no duration"):
        prepare(gadget, {"custom.interval": "soon"})
    with pytest.raises(UsageError, match="must be one of short"):
        prepare(gadget, {"custom.mode": "long"})
    [ds] = gadget.info.datasources
    assert ds.annotations["fetch-interval"] == "9s"


def test_nothing_to_run() -> None:
    gadget = read(metadata_only(name="empty"))
    with pytest.raises(ObjectError, match="no eBPF object, and nothing else of it makes"):
        prepare(gadget, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nods:a=b", 'there is no data source "nods": name one of: processes'),
        ("nods.pid:a=b", 'there is no data source "nods"'),
        ("processes.nope:a=b", 'data source "processes" has no field "nope": name one of: pid'),
    ],
)
def test_annotations_of_what_does_not_exist(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(metadata_only(**PROCESSES), annotate=(text,))
    read(metadata_only(**PROCESSES), annotate=("Processes.PID:a=b", "processes:c=d"))


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ("columns.width=-1", 'invalid width "-1"'),
        ("columns.width=x", 'invalid width "x"'),
        ("columns.width=", "columns.width has no value"),
        ("columns.maxwidth=99999999", "invalid maxwidth"),
        ("columns.precision=many", "invalid precision"),
        ("columns.alignment=center", "invalid alignment type"),
        ("columns.ellipsis=left", "invalid ellipsis type"),
        ("columns.hidden=TRUE", 'columns.hidden is true or false, not "TRUE"'),
        ("columns.hidden=maybe", 'columns.hidden is true or false, not "maybe"'),
        ("columns.hex=yes", 'columns.hex is true or false, not "yes"'),
        ("columns.fixed=", 'columns.fixed is true or false, not ""'),
        ("columns.replace=nosuch", 'has no field "nosuch"'),
    ],
)
def test_annotations_that_no_column_can_follow(annotation: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read(metadata_only(**PROCESSES), annotate=(f"processes.pid:{annotation}",))
    assert str(caught.value).startswith(f'--annotate "processes.pid:{annotation}": ')


def test_a_switch_is_off_in_any_case() -> None:
    gadget = read(metadata_only(**PROCESSES), annotate=("processes.pid:columns.hidden=FALSE",))
    field = gadget.info.datasources[0].field("pid")
    assert field is not None
    assert not field.hidden


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        ("v99.1.0", "the image was built by another version, v99.1.0"),
        ("", "the image does not say which version built it"),
        (user_version(), ""),
    ],
)
def test_another_builder_version_is_told(
    builder: str,
    said: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The command, run earlier in this process, may have taken the messages to standard error.
    monkeypatch.setattr(logging.getLogger("ig_py"), "propagate", True)
    caplog.set_level("INFO", logger="ig_py")
    image = metadata_only(**PROCESSES)
    read(replace(image, annotations={media.BUILDER_VERSION: builder}, origin="store"))
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)


@pytest.mark.parametrize(("key", "value"), [("max-entries", "9"), ("sort", "pid")])
def test_a_data_source_that_only_wasm_makes(
    key: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    operator = "limiter" if key == "max-entries" else "sort"
    name = f"operator.{operator}.{key}"
    metadata = PROCESSES | {"paramDefaults": {name: f"made:{value}"}}
    prepare(read(metadata_only(**metadata)), {})
    assert f"the gadget's default is ignored: --{key}: there is no data source" in caplog.text
    with pytest.raises(UsageError, match=f'--{key}: there is no data source "other"'):
        prepare(read(metadata_only(**metadata)), {name: f"other:{value}"})
