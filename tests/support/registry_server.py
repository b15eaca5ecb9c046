"""A registry in memory that can be told to lie.

It speaks the part of the distribution protocol that images need, over HTTP or HTTPS,
with or without credentials. :meth:`LyingRegistry.on` puts a function before the honest
answer. Every request is kept with its headers, to see who was shown what.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ig_py.oci import media
from ig_py.oci.pack import PackedImage


@dataclass
class Request:
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
    *drip* sends the body byte by byte, so many seconds apart.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    cut: int | None = None
    drip: float = 0.0
    delay: float = 0.0
    drip_headers: float = 0.0


Lie = Callable[[Request, Reply], Reply]


class LyingRegistry:
    """*login*: (user, password) demanded; *scheme*: ``basic`` or ``bearer``."""

    def __init__(self, *, login: tuple[str, str] | None = None, scheme: str = "bearer") -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.requests: list[Request] = []
        self.login, self.scheme = login, scheme
        self.tokens: set[str] = set()
        self.realm = ""
        self.host = ""
        self.base = ""
        self._lies: list[tuple[re.Pattern[str], Lie]] = []
        self._stopping = threading.Event()

    def on(self, pattern: str, lie: Lie) -> None:
        """Pass honest answers to requests ``METHOD PATH`` that match through *lie*."""
        self._lies.append((re.compile(pattern), lie))

    def put(self, repository: str, tag: str, packed: PackedImage) -> None:
        """Store an image as an honest push would."""
        for digest, data in packed.blobs.items():
            kind = _document_type(data)
            if kind:
                self.manifests[repository, digest] = (kind, data)
            else:
                self.blobs[digest] = data
        self.manifests[repository, tag] = (media.INDEX, packed.blobs[packed.index.digest])

    def seen(self, pattern: str) -> list[Request]:
        """Requests ``METHOD PATH`` that match."""
        return [r for r in self.requests if re.search(pattern, f"{r.method} {r.path}")]

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the server's end."""
        self._stopping.wait(seconds)

    def stop(self) -> None:
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        reply = self._honest(request)
        for pattern, lie in self._lies:
            if pattern.search(f"{request.method} {request.path}"):
                reply = lie(request, reply)
        return reply

    def _honest(self, request: Request) -> Reply:
        if request.path == "/token":
            return self._token(request)
        denied = self._denied(request)
        if denied:
            return denied
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/(.+)", request.path)
        if request.path == "/v2/":
            return Reply(200, b"{}")
        if not match:
            return _error(404, "NAME_UNKNOWN")
        repository, kind, target = match.groups()
        if kind == "manifests":
            return self._manifest(request, repository, target)
        return self._blob(request, target)

    def _manifest(self, request: Request, repository: str, target: str) -> Reply:
        if request.method == "PUT":
            digest = _digest(request.body)
            kind = request.headers.get("content-type", "")
            self.manifests[repository, target] = (kind, request.body)
            self.manifests[repository, digest] = (kind, request.body)
            return Reply(201, headers={"Docker-Content-Digest": digest})
        found = self.manifests.get((repository, target))
        if found is None:
            return _error(404, "MANIFEST_UNKNOWN")
        headers = {"Content-Type": found[0], "Docker-Content-Digest": _digest(found[1])}
        return Reply(200, found[1], headers)

    def _blob(self, request: Request, target: str) -> Reply:
        if request.method == "POST":
            place = f"{request.path}{secrets.token_hex(4)}?state=1"
            return Reply(202, headers={"Location": place})
        if request.method == "PUT":
            digest = request.query.get("digest", [""])[0]
            if digest != _digest(request.body):
                return _error(400, "DIGEST_INVALID")
            self.blobs[digest] = request.body
            return Reply(201, headers={"Docker-Content-Digest": digest})
        if target not in self.blobs:
            return _error(404, "BLOB_UNKNOWN")
        return Reply(200, self.blobs[target], {"Content-Type": "application/octet-stream"})

    def _basic(self) -> str:
        assert self.login is not None
        return "Basic " + base64.b64encode(":".join(self.login).encode()).decode()

    def _token(self, request: Request) -> Reply:
        if self.login and request.authorization != self._basic():
            return _error(401, "UNAUTHORIZED")
        token = secrets.token_hex(8)
        self.tokens.add(token)
        return Reply(200, json.dumps({"token": token}).encode())

    def _denied(self, request: Request) -> Reply | None:
        if not self.login and not self.realm:
            return None
        shown = request.authorization
        if self.scheme == "basic":
            ok, challenge = shown == self._basic(), 'Basic realm="test"'
        else:
            ok = shown.removeprefix("Bearer ") in self.tokens
            realm = self.realm or f"{self.base}/token"
            challenge = f'Bearer realm="{realm}",service="test",scope="repository:evil:pull"'
        if ok:
            return None
        denied = _error(401, "UNAUTHORIZED")
        denied.headers["WWW-Authenticate"] = challenge
        return denied


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _error(status: int, code: str) -> Reply:
    body = {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _document_type(data: bytes) -> str:
    with suppress(ValueError):
        doc: Any = json.loads(data)
        if isinstance(doc, dict) and "manifests" in doc:
            return media.INDEX
        if isinstance(doc, dict) and "layers" in doc:
            return media.MANIFEST
    return ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: LyingRegistry

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
            self._send(self.registry.answer(request))

    do_GET = do_HEAD = do_PUT = do_POST = _do

    def _send(self, reply: Reply) -> None:
        self.registry.pause(reply.delay)
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
            if self.registry.stopping:
                break
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(pause)
        self.close_connection = True


@contextmanager
def serving(
    registry: LyingRegistry, *, tls: tuple[Path, Path] | None = None, host: str = "127.0.0.1"
) -> Iterator[LyingRegistry]:
    """*registry* on a free loopback port; sets its ``host`` (``host:port``) and ``base``.

    *tls*: (certificate, key).
    """
    handler = type("Handler", (_Handler,), {"registry": registry})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    registry.host = f"{host}:{server.server_address[1]}"
    registry.base = f"{'https' if tls else 'http'}://{registry.host}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield registry
    finally:
        registry.stop()
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for the loopback names, made by openssl: (certificate, key)."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key),
         "-out", str(certificate), "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return certificate, key
