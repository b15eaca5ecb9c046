"""The writer: everything is written or counted."""

from __future__ import annotations

import errno
import os
import threading

from ig_py.output.writer import Writer


def never() -> bool:
    return False


def read_all(fd: int) -> bytes:
    data = b""
    while chunk := os.read(fd, 1 << 16):
        data += chunk
    os.close(fd)
    return data


def test_order_and_completeness() -> None:
    read, write = os.pipe()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(read)))
    reader.start()
    writer = Writer(write, lambda _err: None, limit=100)
    for number in range(500):
        writer.put("d", f"{number:09d}\n".encode(), 1, never)
    assert writer.close(10) == {}
    os.close(write)
    reader.join()
    assert got == [b"".join(f"{n:09d}\n".encode() for n in range(500))]


def test_a_batch_larger_than_the_queue() -> None:
    read, write = os.pipe()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(read)))
    reader.start()
    writer = Writer(write, lambda _err: None, limit=10)
    writer.put("d", b"x" * 1_000_000, 3, never)
    assert writer.close(10) == {}
    os.close(write)
    reader.join()
    assert len(got[0]) == 1_000_000


def test_a_reader_that_leaves() -> None:
    read, write = os.pipe()
    os.close(read)
    broken: list[OSError] = []
    seen = threading.Event()

    def on_broken(err: OSError) -> None:
        broken.append(err)
        seen.set()

    writer = Writer(write, on_broken)
    writer.put("d", b"x\n", 1, never)
    assert seen.wait(10)
    writer.put("d", b"y\ny\n", 2, never)
    assert writer.close(1) == {"d": 3}
    assert [err.errno for err in broken] == [errno.EPIPE]
    assert writer.broken is broken[0]
    os.close(write)


def test_a_full_disk() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    seen = threading.Event()
    writer = Writer(fd, lambda _err: seen.set())
    writer.put("d", b"x\n", 1, never)
    assert seen.wait(10)
    assert writer.close(1) == {"d": 1}
    assert writer.broken is not None
    assert writer.broken.errno == errno.ENOSPC
    os.close(fd)


def test_a_reader_that_does_not_read_is_given_up() -> None:
    read, write = os.pipe()
    writer = Writer(write, lambda _err: None, limit=1000)
    # More than a pipe holds: the writer's thread blocks in the first batch.
    writer.put("d", b"x" * 500_000, 5, never)
    writer.put("e", b"y" * 10, 2, lambda: True)
    assert writer.close(0.2) == {"d": 5, "e": 2}
    # Unblock the thread, so that it ends.
    threading.Thread(target=lambda: read_all(read), daemon=True).start()
    writer._thread.join(10)
    assert not writer._thread.is_alive()
    os.close(write)
