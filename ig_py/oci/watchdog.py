"""A time limit for a whole request, not only for each read.

A socket timeout starts again with every byte: a server that sends single bytes slowly blocks a
client for ever. The watchdog shuts its connections down.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_KEPT_SOCKETS = 8
"""More than the connections that are open at the same time."""


class Expired(Exception):
    """A request took too long."""


class Watchdog:
    """Limits the time of requests through :meth:`adapter`, one at a time.

    *expired*: the current request took too long and must not be retried.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.expired = False
        self._aborted = False

    def adapter(self) -> HTTPAdapter:
        """An adapter whose connections this watchdog can shut down."""
        return _Adapter(self)

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """End the block's connections after *seconds*.

        Raises:
            Expired: The block takes longer.
        """
        with self._lock:
            self.expired = self._aborted
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as err:
            if self.expired:
                raise Expired from err
            raise
        finally:
            timer.cancel()
        if self.expired:
            raise Expired

    def register(self, sock: socket.socket) -> None:
        """Watch a new connection.

        Raises:
            TimeoutError: The time for the request is over already.
        """
        with self._lock:
            if self.expired:
                sock.close()
                raise TimeoutError("the time for this request is over")
            # TLS takes the descriptor over from this object; a duplicate stays valid.
            self._sockets.append(sock.dup())
            while len(self._sockets) > _KEPT_SOCKETS:
                self._sockets.pop(0).close()

    def abort(self) -> None:
        """Abort the current request from another thread; no other can be made."""
        with self._lock:
            self._aborted = True
        self._expire()

    def close(self) -> None:
        with self._lock:
            while self._sockets:
                self._sockets.pop().close()

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        super().__init__(pool_connections=4, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        watchdog = self._watchdog

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                sock = super()._new_conn()
                watchdog.register(sock)
                return sock

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                sock = super()._new_conn()
                watchdog.register(sock)
                return sock

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
