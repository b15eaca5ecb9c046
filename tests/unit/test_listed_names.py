"""Names of an image in a message: few of many, and the beginning of long ones."""

from __future__ import annotations

import json

import pytest
from fuzz import gadgets
from support import costly

from ig_py.errors import MAX_LISTED, IgPyError, IntegrityError, UsageError, listed
from ig_py.oci.document import parse_index
from ig_py.oci.reader import select
from ig_py.runtime.prepare import prepare, read

LONGEST = 4000
"""Characters of a message, whatever an image holds."""


def test_few_and_short_names_are_listed_whole() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([]) == ""
    assert listed(str(n) for n in range(MAX_LISTED)).endswith(", 19")


def test_many_and_long_names_are_cut() -> None:
    text = listed(["x" * 5000] * 3000)
    assert text.startswith("x" * 100 + "..., x")
    assert text.endswith(" and 2980 more")
    assert len(text) < LONGEST


def test_choices_of_a_parameter_of_an_image() -> None:
    values = {f"v{n}".ljust(50, "y"): {} for n in range(2000)}
    config = {"name": "f", "params": {"custom": {"c": {"defaultValue": "w", "values": values}}}}
    data = json.dumps(config).encode()
    with pytest.raises(UsageError, match="must be one of") as found:
        prepare(read(gadgets.artifact(data, gadgets.small_object())), {})
    assert len(str(found.value)) < LONGEST


def test_values_of_an_enum_of_an_image() -> None:
    image = costly.parameters_of_one_enum(1, 2000)
    gadget = read(gadgets.artifact(b"name: f\n", image))
    key = gadget.base.params[0].full_name
    with pytest.raises(IgPyError, match="must be a number or one of") as found:
        prepare(gadget, {key: "nothing"})
    assert "and 1980 more" in str(found.value)


def test_architectures_of_an_index() -> None:
    manifests = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha256:" + "0" * 64,
            "size": 1,
            "platform": {"os": "linux", "architecture": f"a{n}".ljust(300, "z")},
        }
        for n in range(200)
    ]
    index = parse_index(json.dumps({"schemaVersion": 2, "manifests": manifests}).encode(), "i")
    with pytest.raises(IntegrityError, match="and 180 more") as found:
        select(index, "amd64", "image i")
    assert len(str(found.value)) < LONGEST
