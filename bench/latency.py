"""From an open to its line in the reader's hands: how long events take."""

from __future__ import annotations

import os
import re
import select
import statistics
import sys
import threading
import time
from pathlib import Path

import loads
from loads import BenchError
from tracers import Tool, Tracer

SAMPLES = 300
INTERVAL = 0.017
"""Seconds between two opens: no divisor of the usual periods of a timer."""
_PIPE_SECONDS = 5.0
_MARK = re.compile(rb"/latency-(\d+)")
_READ = 1 << 20
_TAIL = 64
"""Bytes kept of what was read: a mark may be cut by the end of a read."""

_OPENER = """
import os, sys, time
os.setresuid(*[int(sys.argv[1])] * 3)
for i in range(int(sys.argv[2])):
    time.sleep(float(sys.argv[3]))
    at = time.monotonic_ns()
    try:
        os.close(os.open(f"/latency-{i}", os.O_RDONLY))
    except FileNotFoundError:
        pass
    print(i, at, flush=False)
"""


class _Reader(threading.Thread):
    """Notes when each mark came."""

    def __init__(self, fd: int) -> None:
        super().__init__(daemon=True)
        self.fd = fd
        self.came: dict[int, int] = {}
        self.warm = threading.Event()
        self._stop_read, self._stop_write = os.pipe()

    def run(self) -> None:
        tail = b""
        while True:
            ready, _, _ = select.select([self.fd, self._stop_read], [], [])
            if self.fd not in ready:
                return
            data = os.read(self.fd, _READ)
            now = time.monotonic_ns()
            if not data:
                return
            data = tail + data
            if loads.WARM_FILE.encode() in data:
                self.warm.set()
            for mark in _MARK.finditer(data):
                # A number at the very end may go on with the next read.
                if mark.end() < len(data):
                    self.came.setdefault(int(mark.group(1)), now)
            tail = data[-_TAIL:]

    def end(self) -> None:
        os.write(self._stop_write, b"x")
        self.join(_PIPE_SECONDS)
        for fd in (self._stop_read, self._stop_write):
            os.close(fd)


def milliseconds(tool: Tool, mode: str, binary: str, directory: Path) -> list[float]:
    """Of SAMPLES opens, sorted. Raises BenchError where one of them never came."""
    read, write = os.pipe()
    reader = _Reader(read)
    reader.start()
    tracer = Tracer(tool, mode, directory, pipe=write)
    os.close(write)
    try:
        while not reader.warm.wait(0.02):
            tracer.must_run("printed no event to a pipe")
            loads.warm(binary)
        opened = _open_files()
        limit = time.monotonic() + _PIPE_SECONDS
        while len(reader.came) < SAMPLES and time.monotonic() < limit:
            time.sleep(0.05)
        tracer.stop()
    finally:
        tracer.end()
        reader.end()
        os.close(read)
    missing = [i for i in opened if i not in reader.came]
    if missing:
        raise BenchError(f"{tool.name}: {len(missing)} of {SAMPLES} opens never came to the pipe")
    return sorted((reader.came[i] - at) / 1e6 for i, at in opened.items())


def _open_files() -> dict[int, int]:
    """When each file was opened, in nanoseconds of the monotonic clock, by its number."""
    said = loads.run(
        [sys.executable, "-I", "-c", _OPENER, str(loads.UID), str(SAMPLES), str(INTERVAL)]
    )
    return {int(i): int(at) for i, at in (line.split() for line in said.splitlines())}


def median(values: list[float]) -> float:
    return statistics.median(values)


def p99(values: list[float]) -> float:
    """Of sorted *values*."""
    return values[min(len(values) - 1, len(values) * 99 // 100)]
