"""The writer: everything is written or counted."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time

import pytest
from support.rendered import LENGTH, lines
from support.threads import writers
from support.waiting import deadline, wait_for

from ig_py._core import Writer


def read_all(fd: int) -> bytes:
    data = b""
    while chunk := os.read(fd, 1 << 16):
        data += chunk
    os.close(fd)
    return data


def open_writer(fd: int, limit: int = 8 << 20, broken: threading.Event | None = None) -> Writer:
    return Writer(fd, (broken or threading.Event()).set, limit=limit, continuous={"pcap"})


def test_order_and_completeness() -> None:
    read, write = os.pipe()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(read)))
    reader.start()
    writer = open_writer(write, limit=100)
    for number in range(500):
        writer.put_text("d", f"{number:09d}\n".encode())
    assert writer.close(10) == {}
    os.close(write)
    reader.join()
    assert got == [b"".join(f"{n:09d}\n".encode() for n in range(500))]


def test_a_batch_larger_than_the_queue() -> None:
    read, write = os.pipe()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(read)))
    reader.start()
    writer = open_writer(write, limit=10)
    writer(lines("d", 15_000))
    assert writer.close(10) == {}
    os.close(write)
    reader.join()
    assert len(got[0]) == 15_000 * LENGTH


def test_a_reader_that_leaves() -> None:
    read, write = os.pipe()
    os.close(read)
    seen = threading.Event()
    writer = open_writer(write, broken=seen)
    writer(lines("d", 1))
    assert seen.wait(10)
    writer(lines("d", 2))
    assert writer.close(1) == {"d": 3}
    assert isinstance(writer.broken, BrokenPipeError)
    os.close(write)


def test_a_full_disk() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    seen = threading.Event()
    writer = open_writer(fd, broken=seen)
    assert writer.broken is None
    writer(lines("d", 1))
    assert seen.wait(10)
    assert writer.written(0)
    assert writer.close(1) == {"d": 1}
    assert writer.broken is not None
    assert writer.broken.errno == errno.ENOSPC
    os.close(fd)


def test_a_reader_that_does_not_read_is_given_up() -> None:
    read, write = os.pipe()
    before = writers()
    writer = open_writer(write, limit=1000)
    # More than a pipe holds: the writer's thread waits in the first batch.
    writer(lines("d", 8000))
    begun = time.monotonic()
    writer.limit_waits(0.2)
    writer(lines("e", 2))
    assert 0.15 < time.monotonic() - begun < deadline(5)
    assert not writer.written(0.1)
    lost = writer.close(0.1)
    wait_for(lambda: writers() <= before, "the thread to end", 10)
    os.close(write)
    assert lost == {"d": 8000 - len(read_all(read)) // LENGTH, "e": 2}


def test_a_time_limit_reaches_a_put_that_waits() -> None:
    read, write = os.pipe()
    writer = open_writer(write, limit=1000)
    writer(lines("d", 8000))
    waiting = threading.Thread(target=writer, args=[lines("e", 2)])
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    writer.limit_waits(0)
    waiting.join(deadline(5))
    assert not waiting.is_alive()
    assert writer.close(0)["e"] == 2
    for fd in (read, write):
        os.close(fd)


def test_a_capture_ends_with_its_first_gap() -> None:
    read, write = os.pipe()
    writer = open_writer(write, limit=1000)
    writer.limit_waits(0)
    writer(lines("pcap", 8000))
    writer(lines("pcap", 2))
    os.set_blocking(read, False)

    def emptied() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(read, 1 << 20)
        return writer.written(0)

    wait_for(emptied, "the reader to catch up", 10, 0.001)
    writer(lines("pcap", 3))
    assert writer.close(1) == {"pcap": 5}
    for fd in (read, write):
        os.close(fd)


@pytest.mark.parametrize("seconds", [float("nan")])
def test_times_are_numbers(seconds: float) -> None:
    read, write = os.pipe()
    writer = open_writer(write)
    for use in (writer.limit_waits, writer.written, writer.close):
        with pytest.raises(ValueError, match="NaN"):
            use(seconds)
    for fd in (read, write):
        os.close(fd)


def test_a_descriptor_that_is_not_open() -> None:
    with pytest.raises(ValueError, match="open descriptor"):
        open_writer(-1)
