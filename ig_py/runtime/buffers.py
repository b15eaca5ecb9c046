"""Sizes of the buffers between the kernel and a run."""

from __future__ import annotations

import re
import resource
from collections.abc import Mapping

from ig_py.errors import LimitError, UsageError, listed
from ig_py.gadget.maps import PERF_EVENT_ARRAY, RINGBUF
from ig_py.gadget.spec import GadgetSpec, MapSpec

DEFAULT_BUFFER_SIZE = 8 << 20
"""Least bytes of an event map: 256 KiB, as gadgets declare, hold 35 exec events."""
MIN_BUFFER_SIZE = resource.getpagesize()
MAX_BUFFER_SIZE = 1 << 30
MAX_DECLARED = 1 << 30
"""Bytes of all ring buffers of events together, where the gadget says how large they are."""

DEFAULT_MEMORY_LIMIT = 64 << 20
"""Bytes of events that may wait in this process: of a burst, and for a slow reader."""
MIN_MEMORY_LIMIT = 2 << 20
MAX_MEMORY_LIMIT = 1 << 40
_QUEUE_PART = 8
_MAX_QUEUE = 8 << 20
"""Rendered events take several times the memory of samples: most of the limit is for samples."""
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}


def event_maps(spec: GadgetSpec) -> list[MapSpec]:
    """The maps that events are read from, each once: ring buffers and perf event arrays."""
    names = dict.fromkeys(spec.tracer_maps)
    names |= dict.fromkeys(ds.map for ds in spec.datasources if ds.source == "tracer")
    found = [spec.map(name) for name in names]
    return [m for m in found if m is not None and m.type in (RINGBUF, PERF_EVENT_ARRAY)]


def buffer_sizes(
    spec: GadgetSpec, wanted: int | None, set_sizes: Mapping[str, int], least: int
) -> dict[str, int]:
    """Bytes of each event map's buffer, of a perf event array those of each CPU.

    Args:
        wanted: What the user asks for, for every buffer; None: the larger of *least* and what the
            gadget declares.
        set_sizes: Map → bytes that a variable of the gadget says, which *least* does not change.

    Raises:
        LimitError: The gadget declares more than MAX_DECLARED.
    """
    if wanted is not None:
        return {m.name: ring_size(wanted) for m in event_maps(spec)}
    sizes: dict[str, int] = {}
    for declared in event_maps(spec):
        # The number of entries of a perf event array is a number of CPUs.
        own = declared.max_entries if declared.type == RINGBUF else 0
        size = set_sizes.get(declared.name, max(own, least))
        sizes[declared.name] = ring_size(min(size, MAX_DECLARED + 1))
    if (total := sum(sizes.values())) > MAX_DECLARED:
        raise LimitError(
            f"running gadget {spec.name}: its event maps {listed(sizes)} have more than "
            f"{MAX_DECLARED >> 20} MiB together ({total >> 20} MiB or more)",
            remedy="give each a size with --buffer-size",
        )
    return sizes


def ring_size(wanted: int) -> int:
    """The smallest size a ring buffer can have that holds *wanted* bytes.

    A power of two and a multiple of the page size (kernel: ``ringbuf_map_alloc``).
    """
    size = MIN_BUFFER_SIZE
    while size < wanted:
        size <<= 1
    return size


def divided(memory_limit: int) -> tuple[int, int]:
    """Of *memory_limit* bytes those for rendered events that wait for the reader, and those for
    samples that wait to be rendered."""
    queue = min(_MAX_QUEUE, memory_limit // _QUEUE_PART)
    return queue, memory_limit - queue


def parse_size(text: str) -> int:
    """A value of ``--buffer-size``: ``8M`` → bytes (suffixes K, M, G, powers of 1024).

    Raises:
        UsageError: It is no size, or not from MIN_BUFFER_SIZE to MAX_BUFFER_SIZE.
    """
    return _parse(text, "--buffer-size", MIN_BUFFER_SIZE, MAX_BUFFER_SIZE, "8M")


def parse_memory_limit(text: str) -> int:
    """A value of ``--memory-limit``, as :func:`parse_size`.

    Raises:
        UsageError: It is no size, or not from MIN_MEMORY_LIMIT to MAX_MEMORY_LIMIT.
    """
    return _parse(text, "--memory-limit", MIN_MEMORY_LIMIT, MAX_MEMORY_LIMIT, "64M")


def _parse(text: str, flag: str, least: int, most: int, example: str) -> int:
    match = re.fullmatch(r"([0-9]{1,12})([KkMmGg]?)(?:i?[Bb])?", text)
    size = -1
    if match:
        size = int(match[1]) << _UNITS[match[2].lower()]
    if not least <= size <= most:
        raise UsageError(
            f'invalid argument "{text}" for "{flag}" flag: expected a size from '
            f"{least >> 10}K to {most >> 30}G, such as {example}"
        )
    return size
