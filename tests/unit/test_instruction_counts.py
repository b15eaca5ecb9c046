"""An event costs no more instructions than bench/instructions.json says, within a tenth."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

_PATH = Path(__file__).resolve().parents[2] / "bench" / "instructions.py"


@pytest.fixture(scope="module")
def instructions() -> ModuleType:
    spec = importlib.util.spec_from_file_location("instructions", _PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.needs("valgrind")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["none", "json", "columns"])
def test_an_event_costs_what_it_did(instructions: ModuleType, mode: str) -> None:
    kept = json.loads(instructions.KEPT.read_text())
    counts = {mode: instructions.of_an_event(mode)}
    slower = instructions.slower(counts, kept)
    assert not slower, f"{counts} instructions, kept {kept}; bench/instructions.py --renew"


def test_a_tenth_more_is_tolerated(instructions: ModuleType) -> None:
    kept = {"json": 1000, "none": 500}
    assert instructions.slower({"json": 1099, "none": 400}, kept) == {}
    assert set(instructions.slower({"json": 1101, "none": 500}, kept)) == {"json"}
