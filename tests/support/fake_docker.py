"""A Docker engine that only pretends: its HTTP API on a unix socket, told by the test what to
answer, how slowly, how wrongly, and when to die."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

IMAGE = "sha256:" + "ab" * 32
DIGEST = "sha256:" + "cd" * 32

_END = b""


def container_id(number: int) -> str:
    """A valid id, different for each *number*."""
    return f"{number:064x}"


@dataclass
class FakeContainer:
    id: str
    name: str
    pid: int = 0
    image: str = "bb:latest"
    labels: dict[str, str] = field(default_factory=dict)
    network: str = "none"

    def listed(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Names": [f"/{self.name}"],
            "Image": self.image,
            "ImageID": IMAGE,
            "Labels": self.labels,
            "State": "running" if self.pid else "exited",
            "HostConfig": {"NetworkMode": self.network},
        }

    def inspected(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Image": IMAGE,
            "Config": {"Image": self.image, "Labels": self.labels},
            "HostConfig": {"NetworkMode": self.network},
            "State": {"Running": bool(self.pid), "Pid": self.pid},
        }


class FakeDocker:
    """Containers change by its methods, each of which also sends Docker's event.

    *override*: path (without version) → function returning the raw body, which
    may sleep or raise; ``hang`` set makes every request wait for ever.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: dict[str, FakeContainer] = {}
        self.override: dict[str, Callable[[], bytes]] = {}
        self.hang = threading.Event()
        self.requests: list[str] = []
        self.accepted = 0
        self._streams: list[queue.Queue[bytes]] = []
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        self._stopping.clear()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Die: every connection breaks off, the socket is gone."""
        if self._server is None:
            return
        self._stopping.set()
        server, self._server = self._server, None
        server.shutdown()
        server.break_connections()
        server.server_close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        with self._lock:
            for stream in self._streams:
                stream.put(_END)
            self._streams.clear()

    def subscribers(self) -> int:
        with self._lock:
            return len(self._streams)

    def open_connections(self) -> int:
        return self._server.connections() if self._server else 0

    def add(self, container: FakeContainer) -> None:
        """A container that was there before anyone looked: no event."""
        self.containers[container.id] = container

    def create(self, container: FakeContainer) -> None:
        pid, container.pid = container.pid, 0
        self.containers[container.id] = container
        self.event("create", container)
        container.pid = pid

    def begin(self, container: FakeContainer) -> None:
        self.create(container)
        self.event("start", container)

    def die(self, container: FakeContainer) -> None:
        container.pid = 0
        self.event("die", container)

    def destroy(self, container: FakeContainer) -> None:
        self.containers.pop(container.id, None)
        self.event("destroy", container)

    def rename(self, container: FakeContainer, name: str) -> None:
        container.name = name
        self.event("rename", container)

    def event(self, action: str, container: FakeContainer) -> None:
        attributes = {**container.labels, "name": container.name, "image": container.image}
        actor = {"ID": container.id, "Attributes": attributes}
        event = {"Type": "container", "Action": action, "Actor": actor, "id": container.id}
        self.raw(json.dumps(event).encode() + b"\n")

    def raw(self, data: bytes) -> None:
        """Any bytes into every event stream."""
        with self._lock:
            for stream in self._streams:
                stream.put(data)

    def end_streams(self) -> None:
        """Close the event streams, as an engine that shuts down does."""
        with self._lock:
            for stream in self._streams:
                stream.put(_END)
            self._streams.clear()

    def body(self, path: str, query: dict[str, list[str]]) -> bytes | None:
        if path in self.override:
            return self.override[path]()
        if path == "/version":
            return json.dumps({"ApiVersion": "1.41", "Version": "0.fake"}).encode()
        if path == "/containers/json":
            wanted = json.loads(query.get("filters", ["{}"])[0]).get("id")
            found = [c for c in self.containers.values() if not wanted or c.id in wanted]
            return json.dumps([c.listed() for c in found]).encode()
        if match := re.fullmatch(r"/containers/([^/]+)/json", path):
            container = self.containers.get(unquote(match[1]))
            return json.dumps(container.inspected()).encode() if container else None
        if path.startswith("/images/"):
            return json.dumps({"Id": IMAGE, "RepoDigests": [f"bb@{DIGEST}"]}).encode()
        return None

    def subscribe(self) -> queue.Queue[bytes]:
        stream: queue.Queue[bytes] = queue.Queue()
        with self._lock:
            self._streams.append(stream)
        return stream

    def wait_hanging(self) -> None:
        while self.hang.is_set() and not self._stopping.is_set():
            time.sleep(0.01)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, fake: FakeDocker) -> None:
        self.fake = fake
        self._open: set[socket.socket] = set()
        super().__init__(str(fake.path), _Handler)

    def get_request(self) -> tuple[socket.socket, str]:
        connection, _ = super().get_request()
        self.fake.accepted += 1
        self._open.add(connection)
        return connection, "local"

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def connections(self) -> int:
        return len(self._open)

    def break_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        fake = self.server.fake
        parts = urlsplit(self.path)
        path = re.sub(r"^/v\d+\.\d+", "", parts.path)
        fake.requests.append(path)
        fake.wait_hanging()
        if path == "/events":
            self._events(fake)
            return
        body = fake.body(path, parse_qs(parts.query))
        self.send_response(200 if body is not None else 404)
        payload = body if body is not None else b'{"message":"no such thing"}'
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _events(self, fake: FakeDocker) -> None:
        stream = fake.subscribe()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        while data := stream.get():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True


@contextlib.contextmanager
def fake_docker(directory: Path) -> Iterator[FakeDocker]:
    """A running fake whose socket is in *directory*."""
    fake = FakeDocker(directory / "docker.sock")
    fake.start()
    try:
        yield fake
    finally:
        fake.hang.clear()
        fake.stop()
