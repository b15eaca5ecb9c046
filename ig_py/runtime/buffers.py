"""Sizes of the buffers between the kernel and a run."""

from __future__ import annotations

import re
import resource

from ig_py.errors import UsageError

DEFAULT_BUFFER_SIZE = 8 << 20
"""Bytes of ring buffer of each tracer map: 256 KiB, as gadgets declare, holds 35 exec events."""
MIN_BUFFER_SIZE = resource.getpagesize()
MAX_BUFFER_SIZE = 1 << 30


def ring_size(wanted: int) -> int:
    """The smallest size a ring buffer can have that holds *wanted* bytes.

    A power of two and a multiple of the page size (kernel: ``ringbuf_map_alloc``).
    """
    size = MIN_BUFFER_SIZE
    while size < wanted:
        size <<= 1
    return size


def parse_size(text: str) -> int:
    """``8M`` → bytes (suffixes K, M, G, powers of 1024).

    Raises:
        UsageError: It is no size, or not from MIN_BUFFER_SIZE to MAX_BUFFER_SIZE.
    """
    match = re.fullmatch(r"([0-9]{1,12})([KkMmGg]?)(?:i?[Bb])?", text)
    size = -1
    if match:
        size = int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()]
    if not MIN_BUFFER_SIZE <= size <= MAX_BUFFER_SIZE:
        raise UsageError(
            f'invalid argument "{text}" for "--buffer-size" flag: expected a size from '
            f"{MIN_BUFFER_SIZE >> 10}K to {MAX_BUFFER_SIZE >> 30}G, such as 8M"
        )
    return size
