"""HTTP with a Docker engine over its unix socket: the SDK's transport, our bounds.

Every answer is limited in size and time, and :meth:`DockerTransport.abort`
ends whatever is under way from another thread, so that an engine that hangs
never holds anything up. The SDK is imported on first use: it is slow to load.
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
    import socket

    import requests

TIMEOUT_SECONDS = 5
"""For connecting, and for each read."""
ANSWER_SECONDS = 10.0
"""For a whole answer, however it drips."""
MAX_ANSWER = 64 * 1024 * 1024
MAX_EVENT = 256 * 1024
_CHUNK = 16 * 1024
_MAX_CAUSES = 8
_VERSION = re.compile(r"\d{1,3}\.\d{1,4}")
_BASE = "http+docker://localhost"


class DockerTransport:
    """One engine. Not for several threads at once, :meth:`abort` excepted."""

    def __init__(self, socket_path: str, engine: str = "docker") -> None:
        self.socket_path = socket_path
        self._who = f"{engine} engine {socket_path!a}"
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._aborted = False
        self._calls = self._session()
        self._prefix = ""

    def negotiate(self) -> None:
        """Learn the engine's API version, which later calls name. :raises EngineError:"""
        answer = self.get("/version")
        version = answer.get("ApiVersion") if isinstance(answer, dict) else None
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise self._error("/version", "the answer names no API version")
        self._prefix = f"/v{version}"

    def get(self, path: str, **params: str) -> Any:
        """The JSON answer of a GET.

        :raises NoSuchObject: status 404.
        :raises EngineError: everything else.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        body = bytearray()
        with self._failures(path):
            response = self._calls.get(
                f"{_BASE}{self._prefix}{path}", params=params, stream=True, timeout=TIMEOUT_SECONDS
            )
            with response:
                self._check(path, response)
                for chunk in response.iter_content(_CHUNK):
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise self._error(path, f"the answer exceeds {MAX_ANSWER} bytes")
                    if time.monotonic() > deadline:
                        raise self._error(path, f"the answer took over {ANSWER_SECONDS:.0f} s")
            return json.loads(body)

    @contextlib.contextmanager
    def events(self, filters: dict[str, list[str]]) -> Iterator[Iterator[dict[str, Any]]]:
        """Subscribed while the block runs; iterate to wait for events, for ever.

        The iterator raises EngineError when the engine goes away.
        """
        path = "/events"
        connected: list[socket.socket] = []
        with self._session(connected.append) as session:
            with self._failures(path):
                response = session.get(
                    f"{_BASE}{self._prefix}{path}",
                    params={"filters": json.dumps(filters)},
                    stream=True,
                    timeout=TIMEOUT_SECONDS,
                )
                # Silence is normal from here on; abort() ends it.
                connected[-1].settimeout(None)
            with response:
                self._check(path, response)
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

    def close(self) -> None:
        self._calls.close()

    def _follow(self, path: str, response: requests.Response) -> Iterator[dict[str, Any]]:
        pending = bytearray()
        oversized = False
        with self._failures(path):
            for chunk in response.iter_content(_CHUNK):
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
        event = json.loads(line)
        if not isinstance(event, dict):
            raise self._error(path, "an event is no JSON object")
        return event

    def _check(self, path: str, response: requests.Response) -> None:
        if response.status_code == 404:
            raise NoSuchObject(f"{self._who}: {path}: not found")
        if response.status_code != 200:
            raise self._error(path, f"status {response.status_code}")

    def _error(self, path: str, why: str) -> EngineError:
        return EngineError(f"{self._who}: {path}: {why}")

    @contextlib.contextmanager
    def _failures(self, path: str) -> Iterator[None]:
        import http.client

        import requests
        import urllib3

        try:
            yield
        except EngineError:
            raise
        except requests.exceptions.Timeout as error:
            raise self._error(path, f"no answer in {TIMEOUT_SECONDS} s") from error
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._error(path, "the answer is no JSON") from error
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            ValueError,
            # http.client's view of a socket that abort() shut down.
            AttributeError,
        ) as error:
            raise self._error(path, _reason(error)) from error

    def _track(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.add(sock)
            aborted = self._aborted
        if aborted:
            sock.close()
            raise ConnectionAbortedError("stopped")

    def _session(
        self, connected: Callable[[socket.socket], None] | None = None
    ) -> requests.Session:
        import requests
        from docker.transport import unixconn

        track = self._track

        class Connection(unixconn.UnixHTTPConnection):
            def connect(self) -> None:
                super().connect()
                assert self.sock is not None
                track(self.sock)
                if connected:
                    connected(self.sock)

        class Pool(unixconn.UnixHTTPConnectionPool):
            def _new_conn(self) -> Any:
                return Connection(self.base_url, self.socket_path, TIMEOUT_SECONDS)

        class Adapter(unixconn.UnixHTTPAdapter):
            def get_connection(self, url: Any, proxies: Any = None) -> Pool:
                with self.pools.lock:
                    pool: Pool | None = self.pools.get(url)
                    if pool is None:
                        pool = self.pools[url] = Pool(url, self.socket_path, TIMEOUT_SECONDS)
                return pool

        session = requests.Session()
        # No proxy or netrc of the environment has a say about a local socket.
        session.trust_env = False
        session.mount("http+docker://", Adapter(f"http+unix://{self.socket_path}", TIMEOUT_SECONDS))
        return session


def _reason(error: BaseException) -> str:
    """The innermost operating system error in words; wrappers print object addresses."""
    current: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if current is None:
            break
        if isinstance(current, OSError) and current.strerror:
            return current.strerror
        inner = next((a for a in current.args if isinstance(a, BaseException)), None)
        current = inner or current.__cause__ or current.__context__
    return "the connection broke off"
