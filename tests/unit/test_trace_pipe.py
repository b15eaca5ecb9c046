"""``--trace-pipe``: its parameter, and how what was printed becomes lines."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

import pytest
from support.live_run import running

from ig_py.errors import KernelError
from ig_py.gadget.params import EBPF_PREFIX
from ig_py.gadget.spec import GadgetSpec
from ig_py.host import tracefs
from ig_py.operators.base import Context
from ig_py.operators.trace_pipe import INTERVAL_NS, KEY, MAX_LINE, TracePipe


def test_lines_come_whole() -> None:
    pipe = TracePipe()
    assert pipe.lines(b"one\ntwo\nthr") == ["one", "two"]
    assert pipe.lines(b"ee\n\nb\xffd\n") == ["three", "b�d"]
    assert pipe.lines(b"") == []


def test_a_line_without_end_takes_no_memory() -> None:
    pipe = TracePipe()
    assert [len(line) for line in pipe.lines(b"x" * (MAX_LINE * 2 + 5))] == [MAX_LINE] * 2
    assert pipe.lines(b"\n") == ["x" * 5]


@pytest.mark.parametrize(("given", "active"), [("true", True), ("false", False), ("", False)])
def test_the_flag(given: str, active: bool) -> None:
    context = Context(GadgetSpec("g", {}, has_object=True), params={EBPF_PREFIX + KEY: given})
    assert TracePipe().instantiate(context) is active
    [param] = context.spec.params
    assert (param.key, param.default, param.type_hint) == ("trace-pipe", "false", "bool")


def test_it_is_read_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    monkeypatch.setattr(tracefs, "with_tracefs", lambda _work: reader)
    pipe, live = TracePipe(), running()
    pipe.start(Context(GadgetSpec("g", {})), live)
    assert [timer.interval for timer in live.timers] == [INTERVAL_NS]
    pipe.stop()
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)


def test_a_pipe_that_fails_ends_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    pipe, live = TracePipe(), running()
    pipe._pipe = os.open("/", os.O_RDONLY)
    pipe.drained(live)
    assert "trace pipe ends: Is a directory" in caplog.text
    caplog.clear()
    pipe.drained(live)
    pipe.stop()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EBUSY, "end the other program"), (errno.EPERM, "run as root")]
)
def test_a_pipe_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def refuse(work: Callable[[], int]) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tracefs, "with_tracefs", refuse)
    with pytest.raises(KernelError, match=os.strerror(number)) as raised:
        TracePipe().start(Context(GadgetSpec("g", {})), running())
    assert raised.value.remedy.startswith(remedy)


def test_without_programs_there_is_no_flag() -> None:
    context = Context(GadgetSpec("g", {}))
    assert not TracePipe().instantiate(context)
    assert context.spec.params == []


def test_pipe_lines_are_shown_without_verbosity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ig_py.cli import _logging

    said: list[str] = []
    monkeypatch.setattr(_logging, "to_stderr", said.append)
    logger = logging.getLogger("ig_py")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    _logging.route_logging()
    pipe = TracePipe()
    reader, writer = os.pipe2(os.O_NONBLOCK)
    pipe._pipe = reader
    os.write(writer, b"cat-7 [000] bpf_trace_printk: hello\n")
    live = running()
    pipe.drained(live)
    logging.getLogger("ig_py.other").info("not asked for")
    pipe.stop()
    os.close(writer)
    assert len(said) == 1
    assert said[0].endswith('level=info msg="cat-7 [000] bpf_trace_printk: hello"')
