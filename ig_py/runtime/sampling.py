"""``perf_event/NAME``: the event to sample and how often, from gadget.yaml.

Facts: docs/programs.md#samples.
"""

from __future__ import annotations

from ig_py.errors import MetadataError
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import ProgramSpec
from ig_py.records import dataclass

MAX_FREQUENCY = 100_000
"""Far above what kernels allow (kernel.perf_event_max_sample_rate)."""

# enum perf_type_id, perf_sw_ids and perf_hw_id of linux/perf_event.h.
_SOFTWARE = (
    *("cpu_clock", "task_clock", "page_faults", "context_switches", "cpu_migrations"),
    *("page_faults_min", "page_faults_maj", "alignment_faults", "emulation_faults"),
    *("dummy", "bpf_output", "cgroup_switches"),
)
_HARDWARE = (
    *("cpu_cycles", "instructions", "cache_references", "cache_misses"),
    *("branch_instructions", "branch_misses", "bus_cycles"),
    *("stalled_cycles_frontend", "stalled_cycles_backend", "ref_cpu_cycles"),
)
_TYPES = {
    "hardware": (0, "count_hw_", _HARDWARE),
    "software": (1, "count_sw_", _SOFTWARE),
}


@dataclass(frozen=True)
class Sampling:
    """Arguments of ``Object.attach_perf_event``; *frequency* (a second) or *period* is 0."""

    type: int
    config: int
    frequency: int
    period: int


def sampling(program: ProgramSpec, metadata: Metadata) -> Sampling:
    """The event and rate of *program*.

    Raises:
        MetadataError: Gadget.yaml lacks a key, or its value is unknown or out of bounds.
    """
    name = program.section.partition("/")[2] or program.name

    def bad(why: str) -> MetadataError:
        return MetadataError(f'program "{program.name}" ({program.section}): {why}')

    def value(*path: str) -> str:
        return metadata.text(["programs", name, *path])

    kind, config = value("perf", "type"), value("perf", "config")
    if not kind or not config:
        raise bad(f"gadget.yaml lacks programs.{name}.perf.type or .perf.config")
    if kind not in _TYPES:
        raise bad(f"perf.type {kind!a} is not one of {', '.join(_TYPES)}")
    number, prefix, events = _TYPES[kind]
    if config.removeprefix(prefix) not in events:
        raise bad(f"perf.config {config!a} is none of {', '.join(prefix + e for e in events)}")
    sample_type = value("perf", "sampleType")
    if sample_type not in ("", "sample_raw"):
        raise bad(f"perf.sampleType {sample_type!a} is not sample_raw")
    rates = {}
    for key in ("frequency", "period"):
        text = value("sampler", key)
        if text and not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 63):
            raise bad(f"sampler.{key} {text!a} is no positive number")
        rates[key] = int(text or 0)
    if bool(rates["frequency"]) == bool(rates["period"]):
        raise bad(f"gadget.yaml must have programs.{name}.sampler.frequency or .period")
    if rates["frequency"] > MAX_FREQUENCY:
        raise bad(f"sampler.frequency is more than {MAX_FREQUENCY}")
    return Sampling(number, events.index(config.removeprefix(prefix)), **rates)
