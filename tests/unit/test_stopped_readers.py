"""Whoever reads what is written may stop: nothing waits for them without a bound."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import stopped
from support.rendered import LENGTH, lines
from support.threads import writers
from support.waiting import deadline, wait_for

from ig_py._core import Writer
from ig_py.cli._messages import Messages
from ig_py.host.nonblocking import NonBlockingWriter

LINE = b"y" * 63 + b"\n"


def read_all(fd: int) -> bytes:
    """What is there now."""
    os.set_blocking(fd, False)
    data = b""
    try:
        while chunk := os.read(fd, 1 << 16):
            data += chunk
    except BlockingIOError:
        pass
    return data


@pytest.fixture(params=stopped.KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """(descriptor to write to, descriptor to read from), of each kind."""
    with stopped.KINDS[request.param](tmp_path) as fds:  # type: ignore[attr-defined]
        yield fds


def test_a_write_never_waits_and_the_shared_file_stays_as_it_is(place: tuple[int, int]) -> None:
    write, _ = place
    stopped.fill(write)
    flags = fcntl.fcntl(write, fcntl.F_GETFL)
    assert not flags & os.O_NONBLOCK
    file = NonBlockingWriter(write)
    with pytest.raises(BlockingIOError):
        file.write(memoryview(LINE))
    assert fcntl.fcntl(write, fcntl.F_GETFL) == flags
    file.close()


def test_a_socket_has_a_flag_for_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stopped.fill(ours.fileno())
        file = NonBlockingWriter(ours.fileno())
        with pytest.raises(BlockingIOError):
            file.write(memoryview(LINE))
        assert ours.getblocking()
        file.close()
        theirs.recv(1 << 20)
        ours.send(b"x")


def test_events_of_whole_lines_that_were_written_are_not_lost(place: tuple[int, int]) -> None:
    write, read = place
    before = writers()
    writer = Writer(write, lambda: None, limit=8 << 20, continuous=set())
    count = 4000
    began = time.monotonic()
    writer(lines("d", count))
    writer(lines("d", 3))
    assert not writer.written(0.3)
    lost = writer.close(0)
    assert time.monotonic() - began < deadline(5)
    wait_for(lambda: writers() <= before, "the thread to end", 10)
    written = read_all(read)
    assert lost == {"d": count + 3 - written.count(b"\n")}
    assert lost["d"] >= 3


def test_lines_before_the_disk_was_full_are_not_lost(tmp_path: Path) -> None:
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    seen = threading.Event()
    with (tmp_path / "out").open("wb") as file:
        try:
            # A file that takes ten lines and a half.
            resource.setrlimit(resource.RLIMIT_FSIZE, (LENGTH * 10 + 30, before[1]))
            writer = Writer(file.fileno(), seen.set, limit=8 << 20, continuous=set())
            writer(lines("d", 20))
            assert seen.wait(10)
            assert writer.close(1) == {"d": 10}
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "out").read_bytes().count(b"\n") == 10


def dropped(count: int) -> bytes:
    return f"{count} dropped\n".encode()


def test_messages_never_wait_and_those_dropped_are_told(place: tuple[int, int]) -> None:
    write, read = place
    filled = stopped.fill(write)
    messages = Messages(write, dropped, limit=1000)
    began = time.monotonic()
    for number in range(1000):
        messages.put(f"message {number}\n".encode())
    assert not messages.flush(0.1)
    assert messages.stuck
    assert time.monotonic() - began < deadline(5)
    if os.isatty(write):
        import termios

        termios.tcflow(write, termios.TCOON)
    got = b""

    def all_there() -> bool:
        nonlocal got
        got += read_all(read)
        return got.endswith(b"message 999\n")

    wait_for(all_there, "the rest is written", 10)
    lines = got[filled:].decode().splitlines()
    told = [int(line.split()[0]) for line in lines if line.endswith("dropped")]
    kept = [int(line.split()[1]) for line in lines if line.startswith("message")]
    assert told
    assert sum(told) + len(kept) == 1000
    assert kept == sorted(kept)
    assert messages.flush(5)
    assert not messages.stuck


def test_messages_are_written_in_order_when_they_are_read() -> None:
    read, write = os.pipe()
    messages = Messages(write, dropped)
    for number in range(200):
        messages.put(f"{number}\n".encode())
    assert messages.flush(None)
    os.close(write)
    assert read_all(read).decode().split() == [str(n) for n in range(200)]
    os.close(read)


def test_a_long_message_does_not_displace_the_one_before_it(tmp_path: Path) -> None:
    """An error's line is followed by its detail, which may be a verifier's whole log."""
    with stopped.pipe(tmp_path) as (write, read):
        filled = stopped.fill(write)
        messages = Messages(write, dropped, limit=1000)
        for message in (b"first\n", b"error\n", b"x" * 5000 + b"\n"):
            messages.put(message)
        got = b""

        def all_there() -> bool:
            nonlocal got
            got += read_all(read)
            return got.endswith(b"xx\n")

        wait_for(all_there, "all is written", 10)
        assert got[filled:].startswith(b"first\nerror\nxx")


def test_a_reader_of_messages_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    messages = Messages(write, dropped)
    messages.put(b"x\n")
    messages.put(b"y\n")
    assert messages.flush(10)
    os.close(write)


def test_a_bar_is_not_drawn_where_it_would_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import termios

    from ig_py.cli import _image

    with stopped.terminal(tmp_path) as (write, read), os.fdopen(os.dup(write), "w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        stopped.fill(write)
        with _image.progress("pulling") as bar:
            assert bar is not None
            bar.expect(100)
            for _ in range(10):
                bar.advance(5)
            termios.tcflow(write, termios.TCOON)
            wait_for(lambda: read_all(read) == b"" and _image._has_room(write), "it goes on", 10)
            bar.advance(50)
            wait_for(lambda: b"100%" in read_all(read), "it is shown", 10)
