"""The HTTP of a Docker engine that answers wrongly, slowly, or for ever."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.waiting import deadline, wait_for

from ig_py.containers.engines import docker_http
from ig_py.containers.engines.docker_http import DockerTransport
from ig_py.containers.engines.engine import EngineError, NoSuchObject

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Answer = Callable[[socket.socket], None]


class RawEngine:
    """Answers each connection with the bytes, or by the function, that a test sets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: bytes | Answer = b""
        self.requests: list[bytes] = []
        self._ended = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def drip(self, head: bytes, part: bytes, pause: float) -> None:
        """Answer with *head*, then with *part* again and again until the client goes away."""

        def answer(connection: socket.socket) -> None:
            connection.sendall(head)
            while not self._ended.wait(pause):
                connection.sendall(part)

        self.answer = answer

    def close(self) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self._handle(connection)

    def _handle(self, connection: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            if not (part := connection.recv(4096)):
                return
            request += part
        self.requests.append(request)
        if callable(self.answer):
            self.answer(connection)
        else:
            connection.sendall(self.answer)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RawEngine]:
    raw = RawEngine(tmp_path / "s")
    yield raw
    raw.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_http, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(docker_http, "ANSWER_SECONDS", 1.0)


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(engine: RawEngine, path: str = "/x") -> object:
    return DockerTransport(str(engine.path)).get(path)


def test_a_request(engine: RawEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    engine.answer = reply(b'{"ApiVersion": "1.41"}')
    transport = DockerTransport(str(engine.path))
    transport.negotiate()
    transport.get("/containers/json", filters='{"id": ["a b"]}')
    assert [r.split(b"\r\n")[0] for r in engine.requests] == [
        b"GET /version HTTP/1.1",
        b"GET /v1.41/containers/json?filters=%7B%22id%22%3A+%5B%22a+b%22%5D%7D HTTP/1.1",
    ]
    for request in engine.requests:
        assert b"host: localhost\r\n" in request.lower()
        assert b"authorization" not in request.lower()


@pytest.mark.parametrize(
    "answer",
    [
        reply(b'["x"]'),
        reply(b'["x"]', "Connection: close"),
        b'HTTP/1.0 200 OK\r\n\r\n["x"]',
        CHUNKED + b'3\r\n["x\r\n2;a=b\r\n"]\r\n0\r\n\r\n',
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n["x"]',
    ],
    ids=["length", "close", "1.0", "chunked", "continue"],
)
def test_framings(engine: RawEngine, answer: bytes) -> None:
    engine.answer = answer
    assert get(engine) == ["x"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "the connection broke off"),
        (b"\x1b[2JSSH-2.0\r\n", "the answer is no HTTP"),
        (b"HTTP/1.1 abc \x1b[31m\r\n\r\n", "the answer is no HTTP"),
        (b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n", "the answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", "the answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "the answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1", "the connection broke off"),
        (CHUNKED + b"\x1b[2J\r\n", "the connection broke off"),
        (CHUNKED + b"9\r\n[1", "the connection broke off"),
        (reply(b"no json"), "the answer is no JSON"),
        (reply(b'"\xff"'), "the answer is no JSON"),
        (reply(b"[" * 100_000), "the answer is no JSON"),
        (reply(b"9" * 10_000), "the answer is no JSON"),
        # Bytes that a client would decompress to a list.
        (reply(gzip.compress(b"[]", mtime=0), "Content-Encoding: gzip"), "the answer is no JSON"),
        (reply(b"{}", status="500 \x1b[31m"), "status 500"),
        (reply(b"{}", status="204 No Content"), "status 204"),
    ],
    ids=["nothing", "text", "status-line", "long-status", "long-header", "many-headers",
         "short-body", "chunk-size", "short-chunk", "text-body", "no-utf8", "deep", "digits",
         "gzip", "500", "204"],
)  # fmt: skip
def test_wrong_answers(engine: RawEngine, answer: bytes, why: str) -> None:
    engine.answer = answer
    with pytest.raises(EngineError) as caught:
        get(engine)
    assert str(caught.value) == f"docker engine {str(engine.path)!a}: /x: {why}"


def test_nothing_by_that_name(engine: RawEngine) -> None:
    engine.answer = reply(b"{}", status="404 Not Found")
    with pytest.raises(NoSuchObject, match="/x: not found"):
        get(engine)


def test_redirects_are_not_followed(engine: RawEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        engine.answer = reply(b"", f"Location: {url}", status="302 Found")
        with pytest.raises(EngineError, match="status 302"):
            get(engine)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    assert len(engine.requests) == 1


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"", b"x"),
        (b"HTTP/1.1 200 OK\r\nA: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        (CHUNKED, b"1\r\n \r\n"),
        (CHUNKED + b"1;", b"x"),
        (CHUNKED + b"0\r\n", b"a: b\r\n"),
    ],
    ids=["status", "header", "continue", "body", "chunks", "chunk-size", "trailers"],
)
@pytest.mark.usefixtures("quick")
def test_an_answer_that_drips_ends(engine: RawEngine, head: bytes, part: bytes) -> None:
    engine.drip(head, part, 0.05)
    begun = time.monotonic()
    with pytest.raises(EngineError, match="the answer took over 1 s"):
        get(engine)
    assert time.monotonic() - begun < deadline(3)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n["])
@pytest.mark.usefixtures("quick")
def test_an_engine_that_falls_silent(engine: RawEngine, head: bytes) -> None:
    engine.drip(head, b"", 0.05)
    with pytest.raises(EngineError, match=r"no answer in 0\.5 s"):
        get(engine)


@pytest.mark.usefixtures("quick")
def test_a_subscription_waits_for_ever_once_it_is_answered(engine: RawEngine) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(CHUNKED)
        time.sleep(1.5)
        connection.sendall(b'9\r\n{"a": 1}\n\r\n0\r\n\r\n')

    engine.answer = answer
    with DockerTransport(str(engine.path)).events({}) as events:
        assert next(events) == {"a": 1}
        with pytest.raises(EngineError, match="the engine closed the stream"):
            next(events)


@pytest.mark.usefixtures("quick")
def test_a_subscription_that_drips_its_headers_ends(engine: RawEngine) -> None:
    engine.drip(b"HTTP/1.1 200 OK\r\nA: ", b"x", 0.05)
    with (
        pytest.raises(EngineError, match="took over 1 s"),
        DockerTransport(str(engine.path)).events({}),
    ):
        pytest.fail("subscribed")


def test_abort_ends_a_call_and_refuses_the_next(engine: RawEngine) -> None:
    engine.drip(b"", b"", 0.05)
    transport = DockerTransport(str(engine.path))
    said: list[str] = []

    def call() -> None:
        try:
            transport.get("/x")
        except EngineError as error:
            said.append(str(error))

    caller = threading.Thread(target=call)
    caller.start()
    wait_for(lambda: len(engine.requests) == 1, "asked", 5, 0.01)
    transport.abort()
    caller.join(deadline(2))
    assert not caller.is_alive()
    with pytest.raises(EngineError):
        transport.get("/y")
    assert len(said) == 1 and "broke off" in said[0]
    assert len(engine.requests) == 1


def test_a_socket_path_that_no_socket_can_have(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="File name too long"):
        DockerTransport(str(tmp_path / ("x" * 200))).get("/x")


@pytest.mark.usefixtures("quick")
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    head=st.sampled_from(
        [
            b"",
            b"HTTP/1.1 ",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            CHUNKED,
            b"HTTP/1.1 200 OK\r\nContent-Length: ",
        ]
    ),
    rest=st.lists(
        st.sampled_from([b"\r\n", b"0", b"-5", b"f", b"1;x", b"[", b"]", b'"', b": ", b"\x1b[2J"])
        | st.binary(max_size=8),
        max_size=12,
    ).map(b"".join),
)
def test_whatever_an_engine_sends(engine: RawEngine, head: bytes, rest: bytes) -> None:
    engine.answer = head + rest
    try:
        json.dumps(get(engine))
    except EngineError as error:
        assert str(error).isprintable()


def test_calls_share_a_connection_as_long_as_the_engine_keeps_it(engine: RawEngine) -> None:
    def three(connection: socket.socket) -> None:
        connection.sendall(reply(b"1"))
        for _ in range(2):
            if connection.recv(4096):
                connection.sendall(reply(b"1"))

    engine.answer = three
    with contextlib.closing(DockerTransport(str(engine.path))) as transport:
        for _ in range(7):
            assert transport.get("/x") == 1
    # The first of each connection.
    assert len(engine.requests) == 3


def test_a_shared_connection_has_its_limits_for_each_answer(engine: RawEngine, quick: None) -> None:
    def silent(connection: socket.socket) -> None:
        connection.sendall(reply(b"1"))
        while connection.recv(4096):
            pass

    engine.answer = silent
    with contextlib.closing(DockerTransport(str(engine.path))) as transport:
        assert transport.get("/x") == 1
        began = time.monotonic()
        with pytest.raises(EngineError, match="no answer in"):
            transport.get("/x")
        assert time.monotonic() - began >= docker_http.TIMEOUT_SECONDS
    assert len(engine.requests) == 1


def test_abort_ends_a_shared_connection(engine: RawEngine) -> None:
    def silent(connection: socket.socket) -> None:
        connection.sendall(reply(b"1"))
        while connection.recv(4096):
            pass

    engine.answer = silent
    with contextlib.closing(DockerTransport(str(engine.path))) as transport:
        assert transport.get("/x") == 1
        transport.abort()
        with pytest.raises(EngineError):
            transport.get("/x")
    assert len(engine.requests) == 1
