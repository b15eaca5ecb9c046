"""The fuzz targets hold for some hundred samples; ``make fuzz`` tries for longer."""

from __future__ import annotations

import random

import pytest
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
