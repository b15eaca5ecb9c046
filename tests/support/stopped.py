"""Readers that have stopped: descriptors that take nothing more."""

from __future__ import annotations

import os
import pty
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def fill(fd: int) -> int:
    """Write to *fd* until it takes nothing; how many bytes it took."""
    os.set_blocking(fd, False)
    taken = 0
    for size in (4096, 1):
        try:
            while True:
                taken += os.write(fd, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(fd, True)
    return taken


@contextmanager
def pipe(_directory: Path) -> Iterator[tuple[int, int]]:
    """(descriptor to write to, descriptor to read from)"""
    read, write = os.pipe()
    try:
        yield write, read
    finally:
        os.close(read)
        os.close(write)


@contextmanager
def fifo(directory: Path) -> Iterator[tuple[int, int]]:
    path = directory / "fifo"
    os.mkfifo(path)
    read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write = os.open(path, os.O_WRONLY)
    os.set_blocking(read, True)
    try:
        yield write, read
    finally:
        os.close(read)
        os.close(write)


@contextmanager
def terminal(_directory: Path) -> Iterator[tuple[int, int]]:
    """After Ctrl-S."""
    read, write = pty.openpty()
    tty.setraw(write)
    termios.tcflow(write, termios.TCOOFF)
    try:
        yield write, read
    finally:
        os.close(read)
        os.close(write)


KINDS: dict[str, Callable[[Path], object]] = {"pipe": pipe, "fifo": fifo, "terminal": terminal}
