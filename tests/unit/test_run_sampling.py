"""What a perf_event program needs from gadget.yaml."""

from __future__ import annotations

from typing import Any

import pytest

from ig_py.errors import MetadataError
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import ProgramSpec
from ig_py.runtime.sampling import Sampling, sampling

GOOD = {"type": "software", "config": "count_sw_cpu_clock", "sampleType": "sample_raw"}


def of(perf: Any, sampler: Any) -> Sampling:
    metadata = Metadata({"programs": {"Profiler": {"perf": perf, "sampler": sampler}}})
    return sampling(ProgramSpec("prog", "perf_event/profiler"), metadata)


def test_rates() -> None:
    assert of(GOOD, {"frequency": "49"}) == Sampling(1, 0, 49, 0)
    assert of(GOOD, {"frequency": 49}) == Sampling(1, 0, 49, 0)
    assert of(GOOD, {"period": "1000"}) == Sampling(1, 0, 0, 1000)


def test_events() -> None:
    hardware = {"type": "hardware", "config": "count_hw_cache_misses"}
    assert of(hardware, {"period": 1}) == Sampling(0, 3, 0, 1)
    faults = {"type": "software", "config": "count_sw_page_faults"}
    assert of(faults, {"period": 1}) == Sampling(1, 2, 0, 1)


@pytest.mark.parametrize(
    ("perf", "sampler", "why"),
    [
        ({}, {"frequency": "49"}, "perf.type"),
        ({"type": "software"}, {"frequency": "49"}, "perf.config"),
        ({**GOOD, "type": "tracepoint"}, {"frequency": "49"}, "is not one of"),
        ({**GOOD, "config": "count_hw_cpu_cycles"}, {"frequency": "49"}, "is none of"),
        ({**GOOD, "sampleType": "sample_ip"}, {"frequency": "49"}, "sampleType"),
        (GOOD, {}, "frequency or .period"),
        (GOOD, {"frequency": "1", "period": "1"}, "frequency or .period"),
        (GOOD, {"frequency": "0"}, "no positive number"),
        (GOOD, {"frequency": "-1"}, "no positive number"),
        (GOOD, {"frequency": "lots"}, "no positive number"),
        (GOOD, {"frequency": "1000000"}, "more than"),
        (GOOD, {"period": "9" * 30}, "no positive number"),
    ],
)
def test_missing_and_wrong_options(perf: Any, sampler: Any, why: str) -> None:
    with pytest.raises(MetadataError) as failure:
        of(perf, sampler)
    assert why in str(failure.value)
