"""HTTP for :mod:`ig_py.testing.registry`, with answers that may be slow, cut or wrong."""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from ig_py.records import dataclass, field


@dataclass
class Request:
    """Header names are in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = field(repr=False, default=b"")

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


@dataclass
class Reply:
    """*length* overrides Content-Length; *cut* closes after so many bytes of the body;
    *delay* waits so many seconds before anything; *drip* sends the body, *drip_headers* an
    endless header, byte by byte so many seconds apart.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    cut: int | None = None
    drip: float = 0.0
    delay: float = 0.0
    drip_headers: float = 0.0


class Application(Protocol):
    """What answers."""

    def answer(self, request: Request) -> Reply: ...

    def pause(self, seconds: float) -> None: ...

    @property
    def stopping(self) -> bool: ...


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body go out in two writes: Nagle's algorithm would hold the second one back.
    disable_nagle_algorithm = True
    application: Application

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _do(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            self.command,
            parts.path,
            parse_qs(parts.query),
            {k.lower(): v for k, v in self.headers.items()},
            body,
        )
        with suppress(OSError):
            self._send(self.application.answer(request))

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _do

    def _send(self, reply: Reply) -> None:
        self.application.pause(reply.delay)
        if reply.drip_headers:
            self._drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: " + b"a" * 10_000, reply.drip_headers)
            return
        self.send_response(reply.status)
        for key, value in reply.headers.items():
            self.send_header(key, value)
        length = len(reply.body) if reply.length is None else reply.length
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if reply.drip:
            self._drip(reply.body, reply.drip)
        elif reply.cut is not None:
            self.wfile.write(reply.body[: reply.cut])
            self.close_connection = True
        else:
            self.wfile.write(reply.body)
            self.close_connection = length != len(reply.body)

    def _drip(self, data: bytes, pause: float) -> None:
        for byte in data:
            if self.application.stopping:
                break
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(pause)
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what a faulty server is for; anything else is a bug here."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def listening(application: Application, tls: tuple[Path, Path] | None) -> Iterator[int]:
    """Serve on a free port of 127.0.0.1, which is yielded, until the block ends."""
    handler = type("Handler", (_Handler,), {"application": application})
    server = _Server(("127.0.0.1", 0), handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
