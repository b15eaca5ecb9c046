"""From an artifact to what can be run: custom parameters, wasm layers, gadgets without programs."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support.elf_writer import SIGNED
from support.gadget_objects import tracer_object
from support.gadget_runner import artifact

from ig_py.errors import MetadataError, ObjectError, UsageError
from ig_py.oci import media
from ig_py.oci.artifact import Artifact, Descriptor, Layer
from ig_py.records import replace
from ig_py.runtime.prepare import prepare, read

WASM = Layer(Descriptor(media.WASM_LAYER, "sha256:0", 4), b"\0asm")
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


def with_wasm(image: Artifact) -> Artifact:
    return replace(image, layers=(*image.layers, WASM))


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


def test_a_wasm_module_is_not_run_and_that_is_said_once() -> None:
    obj = tracer_object(lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)])
    plain = artifact("x", b"name: x\n", obj)
    gadget = read(with_wasm(plain))
    said = [note for note in gadget.notes if "wasm" in note]
    assert len(said) == 1
    prepared = prepare(gadget, {})
    assert prepared.elf == obj
    assert not [note for note in prepared.spec.notes if "wasm" in note]
    assert not [n for n in read(plain).notes if "wasm" in n]


def test_nothing_to_run() -> None:
    gadget = read(metadata_only(name="empty"))
    with pytest.raises(ObjectError, match="no eBPF object, and its metadata asks for nothing"):
        prepare(gadget, {})
    gadget = read(with_wasm(metadata_only(name="empty")))
    with pytest.raises(ObjectError, match="no eBPF object, only a wasm module"):
        prepare(gadget, {})
