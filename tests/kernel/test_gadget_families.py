"""Every gadget of tests/gadgets does what its test.yaml says (docs/testing-gadgets.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import features, mounts
from support.gadget_build import VARIABLE, has_guest, has_program
from support.gadget_format import GadgetTest, discover
from support.gadget_runner import run_test

_BASE = ("root", "bpf", "btf")
TESTS = [
    pytest.param(test, id=test.id, marks=pytest.mark.needs(*_BASE, *test.needs))
    for test in discover()
]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Objects are compiled once."""
    return tmp_path_factory.mktemp("gadgets")


@pytest.mark.parametrize("test", TESTS)
def test_gadget(test: GadgetTest, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if has_program(test.gadget) and VARIABLE not in os.environ:
        features.need("clang")
    if has_guest(test.gadget) and VARIABLE not in os.environ:
        features.need("wasm_linker")
    for feature in test.lacks:
        if features.missing(feature) is None:
            pytest.skip(f"only where there is no {feature}")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    with mounts.pins_end_with_the_block():
        run_test(test, directory)
