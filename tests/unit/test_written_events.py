"""Events of a batch that is cut, in every mode: those that are whole in the output are emitted."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import pytest
from support.core_plans import PlanMaker

from ig_py._core import Batch, Writer, pipeline

COUNT = 40
LIMIT = 8 << 20


def maker(mode: str, *, array: bool = False) -> PlanMaker:
    made = PlanMaker(32)
    time = made.field("time", "u64", 0, 8)
    length = made.field("length", "u32", 8, 4)
    name = made.field("name", "char", 12, 20)
    if array:
        made.datasource["array"] = True
    if mode == "columns":
        return made.mode(mode, columns=[{"field": f, "width": 12} for f in (time, name)])
    if mode == "text":
        return made.mode(mode, header="::\n" if array else "")
    if mode == "pcap-ng":
        payload = made.field("data", "bytes", slot=True)
        made.datasource["rest"] = {"field": payload, "length": length}
        places = {"payload": payload, "timestamp": time, "length": length, "interfaces": []}
        return made.mode(mode, capture=places)
    return made.mode(mode)


def samples() -> list[bytes]:
    names = [b"", b"a\nb", b"---", b"}\n{", b"x" * 19, b"plain"]
    return [
        struct.pack("<QI20s", n * 10**9, n % 7, names[n % len(names)]) + bytes(n % 7)
        for n in range(COUNT)
    ]


def whole_json(text: bytes) -> int:
    """Documents one after the other, each with the end of its last line."""
    decoder, at, found = json.JSONDecoder(), 0, 0
    string = text.decode()
    while at < len(string):
        try:
            _, at = decoder.raw_decode(string, at)
        except ValueError:
            break
        if string[at : at + 1] != "\n":
            break
        found, at = found + 1, at + 1
    return found


def packets(text: bytes) -> int:
    found = at = 0
    while at + 8 <= len(text):
        kind, size = struct.unpack_from("<II", text, at)
        if at + size > len(text):
            break
        found += kind == 6
        at += size
    return found


STREAMS = ["json", "jsonpretty", "yaml", "columns", "text", "pcap-ng"]


@pytest.mark.parametrize("mode", STREAMS)
def test_every_cut_of_a_batch(mode: str) -> None:
    """Against the lengths of the same events, rendered one by one."""
    single = pipeline(maker(mode).text())
    parts = [single.push("x", [sample]).data for sample in samples()]
    batch = pipeline(maker(mode).text()).push("x", samples())
    assert b"".join(parts) == batch.data
    ends = list(accumulate(len(part) for part in parts))
    for written in range(len(batch.data) + 1):
        assert batch.whole_events(written) == sum(end <= written for end in ends)
    assert batch.whole_events(len(batch.data)) == batch.events == COUNT


@pytest.mark.parametrize("mode", ["json", "jsonpretty"])
def test_an_array_in_json_is_one_document(mode: str) -> None:
    batch = pipeline(maker(mode, array=True).text()).push("x", samples())
    assert [batch.whole_events(n) for n in (0, 100, len(batch.data) - 1)] == [0, 0, 0]
    assert batch.whole_events(len(batch.data)) == COUNT
    assert len(json.loads(batch.data)) == COUNT


@pytest.mark.parametrize("mode", ["yaml", "columns"])
def test_an_array_of_documents_or_rows(mode: str) -> None:
    array = pipeline(maker(mode, array=True).text()).push("x", samples())
    stream = pipeline(maker(mode).text()).push("x", samples())
    assert array.data == stream.data
    assert [array.whole_events(n) for n in range(len(array.data))] == [
        stream.whole_events(n) for n in range(len(array.data))
    ]


def test_modes_that_render_nothing() -> None:
    batch = pipeline(maker("none").text()).push("x", samples())
    assert (batch.data, batch.events, batch.whole_events(0)) == (b"", COUNT, 0)


@contextmanager
def room_for(size: int, path: Path) -> Iterator[int]:
    """A descriptor of *path*, which takes *size* bytes, as on a full disk.

    The limit holds for every file of this process: pytest may write none inside of the block.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        yield fd
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
        os.close(fd)


COUNTED: dict[str, Callable[[bytes], int]] = {
    "json": lambda text: text.count(b"\n"),
    "jsonpretty": whole_json,
    "columns": lambda text: text.count(b"\n"),
    "pcap-ng": packets,
}


def written_to(fd: int, batch: Batch) -> int:
    """Events that are not lost of *batch*, after nothing more could be written."""
    broken = threading.Event()
    writer = Writer(fd, broken.set, limit=LIMIT, continuous=set())
    writer.limit_waits(0)
    writer(batch)
    assert broken.wait(30)
    return batch.events - writer.close(10).get("x", 0)


@pytest.mark.parametrize("mode", COUNTED)
@pytest.mark.parametrize("part", [0.0, 0.31, 0.5, 0.77, 0.999])
def test_a_full_disk(tmp_path: Path, mode: str, part: float) -> None:
    batch = pipeline(maker(mode).text()).push("x", samples())
    with room_for(int(len(batch.data) * part), tmp_path / "out") as fd:
        told = written_to(fd, batch)
    assert told == COUNTED[mode]((tmp_path / "out").read_bytes())
    assert told < COUNT


@pytest.mark.parametrize("mode", COUNTED)
def test_a_reader_that_leaves(mode: str) -> None:
    """What the pipe took was written."""
    once = samples()
    stream = pipeline(maker(mode).text())
    batch = stream.push("x", once * 100)
    assert len(batch.data) > 1 << 16
    read, write = os.pipe()
    writer = Writer(write, lambda: None, limit=LIMIT, continuous=set())
    writer(batch)
    got = os.read(read, 10_000)
    writer.close(0.2)
    while len(chunk := os.read(read, 1 << 20)) == 1 << 20:
        got += chunk
    got += chunk
    lost = writer.lost()["x"]
    os.close(read)
    os.close(write)
    assert batch.events - lost == COUNTED[mode](got)
    assert 0 < lost < batch.events
