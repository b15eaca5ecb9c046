"""The fuzz targets hold for some hundred samples; ``make fuzz`` tries for longer."""

from __future__ import annotations

import random

import pytest
from fuzz.gadgets import small_object
from fuzz.mutate import MAX_SAMPLE
from fuzz.objects import Object, Section
from fuzz.run import fuzz
from fuzz.targets import TARGETS

RUNS = {
    "references": 2000,
    "manifests": 300,
    "archives": 40,
    "signatures": 300,
    "objects": 60,
    "documents": 60,
    "modules": 300,
}


@pytest.mark.parametrize("target", TARGETS)
def test_targets(target: str) -> None:
    said = fuzz(TARGETS[target], random.Random(7), runs=RUNS[target])
    assert int(said.split()[2]) > 3, said


def test_an_object_larger_than_a_sample_is_not_made() -> None:
    """Thousands of sections of a megabyte would take all memory before a reader sees them."""
    known = Object.read(small_object())
    large = Section(list(known.sections[1].header), bytes(1 << 20))
    known.sections += [large] * 8000
    with pytest.raises(ValueError, match="larger than a sample"):
        known.write()
    large.at_one_place = True
    assert len(known.write()) < MAX_SAMPLE
