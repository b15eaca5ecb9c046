"""A Docker engine's HTTP API over its unix socket, with bounds of our own.

Every answer is limited in size and time, and :meth:`DockerTransport.abort`
ends whatever is under way from another thread, so that an engine that hangs
never holds anything up. The ``docker`` package has none of the three for an
API call, so it serves where an engine is told to work and waited for
(:mod:`ig_py.toolchain.container`: pull an image, create, run, remove), not here.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ig_py.containers.engines.engine import EngineError, NoSuchObject

if TYPE_CHECKING:
    import http.client
    import socket

    from ig_py.containers.engines.unix_http import UnixConnection

TIMEOUT_SECONDS = 5
"""For connecting, and for each read."""
ANSWER_SECONDS = 10.0
"""For a whole answer, however it drips."""
MAX_ANSWER = 64 * 1024 * 1024
MAX_ANSWER_OF_USER = 4 * 1024 * 1024
"""JSON takes up to 25 times as much memory. As many containers as a user may have
(``descriptions.MAX_OF_USER``) take less."""
MAX_EVENT = 256 * 1024
_CHUNK = 16 * 1024
_VERSION = re.compile(r"\d{1,3}\.\d{1,4}")


class DockerTransport:
    """One engine, Docker's or another with HTTP at its socket. Not for several threads at once,
    :meth:`abort` excepted."""

    def __init__(
        self, socket_path: str, engine: str = "docker", rest: Callable[[], None] | None = None
    ) -> None:
        """*rest*: of a user's engine, whose answers have a limit of their own: what to do before
        each read."""
        self.socket_path = socket_path
        self._rest = rest
        self._who = f"{engine} engine {socket_path!a}"
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._aborted = False
        self._prefix = ""
        self._idle: UnixConnection | None = None
        """The connection of the last call, over which the next one goes."""

    def negotiate(self) -> None:
        """Learn the engine's API version, which later calls name.

        Raises:
            EngineError: The engine does not answer, or names no version.
        """
        answer = self.get("/version")
        version = answer.get("ApiVersion") if isinstance(answer, dict) else None
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise self._error("/version", "the answer names no API version")
        self._prefix = f"/v{version}"

    def get(self, path: str, **params: str) -> Any:
        """The JSON answer of a GET.

        Raises:
            NoSuchObject: The status is 404.
            EngineError: There is no answer in time, it is too large, its status is
                another one, or it is no JSON.
        """
        return self._json(path, self.body(path, **params))

    def body(self, path: str, **params: str) -> bytearray:
        """The answer of a GET, whatever its form.

        Raises:
            EngineError: As :meth:`get`.
        """
        with self._failures(path):
            idle, self._idle = self._idle, None
            if idle is not None:
                # The engine may have closed it meanwhile.
                with contextlib.suppress(ConnectionError):
                    return self._body(path, params, idle)
            return self._body(path, params, self._connection())

    def _body(self, path: str, params: dict[str, str], connection: UnixConnection) -> bytearray:
        body = bytearray()
        most = MAX_ANSWER_OF_USER if self._rest else MAX_ANSWER
        with contextlib.ExitStack() as opened:
            opened.callback(connection.close)
            with self._request(path, params, connection) as response:
                while chunk := response.read1(_CHUNK):
                    body += chunk
                    if len(body) > most:
                        raise self._error(path, f"the answer exceeds {most} bytes")
                if response.length:
                    raise self._error(path, "the connection broke off")
            if connection.usable:
                opened.pop_all()
                self._idle = connection
        return body

    def close(self) -> None:
        """Close the connection that is kept for the next call."""
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.close()

    @contextlib.contextmanager
    def events(self, filters: dict[str, list[str]]) -> Iterator[Iterator[dict[str, Any]]]:
        """Subscribed while the block runs; iterate to wait for events, for ever.

        Raises:
            EngineError: As :meth:`get`; from the iterator, also when the engine goes away.
        """
        path = "/events"
        with contextlib.ExitStack() as opened:
            with self._failures(path):
                connection = opened.enter_context(contextlib.closing(self._connection()))
                request = self._request(path, {"filters": json.dumps(filters)}, connection)
                response = opened.enter_context(request)
                # Silence is normal from here on; abort() ends it.
                connection.wait_for_ever()
            yield self._follow(path, response)

    def abort(self) -> None:
        """End every call under way and refuse later ones; any thread."""
        import socket

        with self._lock:
            self._aborted = True
            sockets = list(self._sockets)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connection(self) -> UnixConnection:
        from ig_py.containers.engines.unix_http import DeadlineSocket, UnixConnection

        self._go_on()
        deadline = time.monotonic() + ANSWER_SECONDS
        sock = DeadlineSocket(TIMEOUT_SECONDS, deadline, self._rest)
        return UnixConnection(self.socket_path, sock, self._track)

    @contextlib.contextmanager
    def _request(
        self, path: str, params: dict[str, str], connection: UnixConnection
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer with status 200, its body not read."""
        from urllib.parse import urlencode

        query = f"?{urlencode(params)}" if params else ""
        connection.limit(time.monotonic() + ANSWER_SECONDS)
        connection.request("GET", f"{self._prefix}{path}{query}")
        with connection.getresponse() as response:
            self._check(path, response.status)
            yield response

    def _follow(self, path: str, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        pending = bytearray()
        oversized = False
        with self._failures(path):
            while chunk := response.read1(_CHUNK):
                *lines, rest = chunk.split(b"\n")
                for line in lines:
                    pending += line
                    oversized |= len(pending) > MAX_EVENT
                    if not oversized and pending.strip():
                        yield self._event(path, pending)
                    pending.clear()
                    oversized = False
                pending += rest
                if len(pending) > MAX_EVENT:
                    pending.clear()
                    oversized = True
        raise self._error(path, "the engine closed the stream")

    def _event(self, path: str, line: bytearray) -> dict[str, Any]:
        event = self._json(path, line)
        if not isinstance(event, dict):
            raise self._error(path, "an event is no JSON object")
        return event

    def _json(self, path: str, raw: bytearray) -> Any:
        try:
            return json.loads(raw)
        # Besides malformed JSON: no UTF-8, numbers of too many digits, too many brackets.
        except (ValueError, RecursionError) as error:
            raise self._error(path, "the answer is no JSON") from error

    def _check(self, path: str, status: int) -> None:
        if status == 404:
            raise NoSuchObject(f"{self._who}: {path}: not found")
        if status != 200:
            raise self._error(path, f"status {status}")

    def _error(self, path: str, why: str) -> EngineError:
        return EngineError(f"{self._who}: {path}: {why}")

    @contextlib.contextmanager
    def _failures(self, path: str) -> Iterator[None]:
        import http.client

        from ig_py.containers.engines.unix_http import AnswerTooSlow

        try:
            yield
        except AnswerTooSlow as error:
            raise self._error(path, f"the answer took over {ANSWER_SECONDS:.0f} s") from error
        except TimeoutError as error:
            raise self._error(path, f"no answer in {TIMEOUT_SECONDS} s") from error
        except OSError as error:
            # An exception of http.client's may hold the engine's own bytes: never its text.
            raise self._error(path, error.strerror or "the connection broke off") from error
        except http.client.IncompleteRead as error:
            raise self._error(path, "the connection broke off") from error
        except (http.client.HTTPException, ValueError) as error:
            raise self._error(path, "the answer is no HTTP") from error

    def _track(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.add(sock)
        self._go_on()

    def _go_on(self) -> None:
        with self._lock:
            if self._aborted:
                raise ConnectionAbortedError("stopped")
