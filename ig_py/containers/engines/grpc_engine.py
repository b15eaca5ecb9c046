"""gRPC with an engine over its unix socket, with deadlines and bounds.

Services and methods are named in full (``/package.Service/Method``); messages
are those of ``protos``. The library is imported on first use: it is slow to load.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import quote

from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.engine import (
    EngineClient,
    EngineError,
    EngineSink,
    NoAnswer,
    NoSuchObject,
)

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

    M = TypeVar("M", bound=Message)
else:
    M = TypeVar("M")

TIMEOUT_SECONDS = 2.0
"""For a call; see also :data:`LIST_SECONDS`."""
LIST_SECONDS = 10.0
"""For a call whose answer grows with the number of containers."""
MAX_ANSWER = 64 * 1024 * 1024
MAX_QUEUE = 4096
"""Events not yet handled; more are dropped, and a listing makes up for them."""

Metadata = Sequence[tuple[str, str]]


class Unimplemented(EngineError):
    """The engine does not have the method."""


class GrpcEngineClient(EngineClient):
    """An engine client whose every connection is one :class:`GrpcTransport`. Its own class
    implements :meth:`follow`."""

    def __init__(self, config: EngineConfig, sink: EngineSink, *, called: str = "") -> None:
        """*called*: the engine in error messages; by default its name."""
        super().__init__(config, sink)
        self._called = called or self.name
        self._transport: GrpcTransport | None = None

    def follow(self, transport: GrpcTransport) -> None:
        """As :meth:`serve`, over *transport*.

        Raises:
            EngineError: Always, with the reason of the end.
        """
        raise NotImplementedError

    def abort(self) -> None:
        with self._lock:
            transport = self._transport
        if transport:
            transport.close()

    def serve(self) -> None:
        transport = GrpcTransport(self._called, self.socket_path)
        with self._lock:
            self._transport = transport
        try:
            # abort() before the transport was set has closed nothing.
            if self._stopping.is_set():
                raise EngineError("stopped")
            self.follow(transport)
        finally:
            with self._lock:
                self._transport = None
            transport.close()


class GrpcTransport:
    """One engine; several threads may use it at once."""

    def __init__(self, engine: str, socket_path: str) -> None:
        import grpc

        self._who = f"{engine} engine {socket_path!a}"
        self._lock = threading.Lock()
        self._aborted = False
        self._channel = grpc.insecure_channel(
            f"unix:{quote(socket_path)}",
            options=(
                ("grpc.max_receive_message_length", MAX_ANSWER),
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),
                ("grpc.default_authority", "localhost"),
                # Or a reconnect waits for the back-off of the channel before.
                ("grpc.use_local_subchannel_pool", 1),
            ),
        )

    def call(
        self,
        method: str,
        request: Message,
        answer: type[M],
        metadata: Metadata = (),
        timeout: float = TIMEOUT_SECONDS,
    ) -> M:
        """The answer of a unary call.

        Raises:
            NoAnswer: There is none in *timeout* seconds.
            NoSuchObject: Status NOT_FOUND.
            Unimplemented: Status UNIMPLEMENTED.
            EngineError: Every other failure.
        """
        with self._failures(method, timeout):
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
            raw = ask(request.SerializeToString(), timeout=timeout, metadata=tuple(metadata))
            return answer.FromString(raw)

    def collect(
        self, method: str, request: Message, answer: type[M], metadata: Metadata = ()
    ) -> Iterator[M]:
        """The messages of a stream that ends soon.

        Raises:
            EngineError: As :meth:`call`.
        """
        with self._failures(method, TIMEOUT_SECONDS):
            yield from self._stream(method, answer, request, metadata, TIMEOUT_SECONDS)

    def follow(
        self, method: str, request: Message, answer: type[M], metadata: Metadata = ()
    ) -> Subscription[M]:
        """A stream without end. Its failure is raised by :meth:`Subscription.get`."""
        with self._failures(method, TIMEOUT_SECONDS):
            return Subscription(self, method, self._stream(method, answer, request, metadata, None))

    def close(self) -> None:
        """End every call under way and refuse later ones; any thread."""
        with self._lock:
            self._aborted = True
        self._channel.close()

    def _stream(
        self,
        method: str,
        answer: type[M],
        request: Message,
        metadata: Metadata,
        timeout: float | None,
    ) -> Iterator[M]:
        # Messages are read here: the library would log a traceback for a malformed one.
        ask: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(method)
        stream = ask(request.SerializeToString(), timeout=timeout, metadata=tuple(metadata))
        return map(answer.FromString, stream)

    def error(self, method: str, why: str) -> EngineError:
        return EngineError(f"{self._who}: {method}: {why}")

    @contextlib.contextmanager
    def _failures(self, method: str, timeout: float) -> Iterator[None]:
        import grpc
        from google.protobuf.message import DecodeError

        try:
            yield
        except grpc.RpcError as error:
            raise self.failure(method, error, timeout) from error
        except DecodeError as error:
            raise self.error(method, "the answer is malformed") from error
        except ValueError as error:
            # What a closed channel says.
            raise self.error(method, "stopped" if self._aborted else str(error)) from error

    def failure(
        self, method: str, error: grpc.RpcError, timeout: float = TIMEOUT_SECONDS
    ) -> EngineError:
        """Our error for one of the library's."""
        import grpc

        code = error.code() if isinstance(error, grpc.Call) else None
        said = " ".join((error.details() or "").split()) if isinstance(error, grpc.Call) else ""
        if code is grpc.StatusCode.NOT_FOUND:
            return NoSuchObject(f"{self._who}: {method}: not found")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return Unimplemented(f"{self._who}: {method}: the engine has no such call")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return NoAnswer(f"{self._who}: {method}: no answer in {timeout:g} s")
        return self.error(method, said[:200] or (code.name if code else type(error).__name__))


class Subscription(Generic[M]):
    """The messages of a stream. A thread of its own reads them, so :meth:`get` can time out."""

    def __init__(self, transport: GrpcTransport, method: str, stream: Iterator[M]) -> None:
        self._transport = transport
        self._method = method
        self._stream = stream
        self._queue: queue.Queue[M | EngineError] = queue.Queue(MAX_QUEUE)
        self._end: EngineError | None = None
        self._dropped = False
        threading.Thread(target=self._read, name="ig-grpc-events", daemon=True).start()

    def get(self, seconds: float) -> M | None:
        """The next message; None when there is none in *seconds*.

        Raises:
            EngineError: The stream ended.
        """
        try:
            item = self._queue.get(timeout=seconds) if seconds > 0 else self._queue.get_nowait()
        except queue.Empty:
            if self._end:
                raise self._end from None
            return None
        if isinstance(item, EngineError):
            raise item
        return item

    def dropped(self) -> bool:
        """True once when messages were lost since the last call."""
        dropped, self._dropped = self._dropped, False
        return dropped

    def _read(self) -> None:
        import grpc
        from google.protobuf.message import DecodeError

        end = self._transport.error(self._method, "the engine closed the stream")
        try:
            for message in self._stream:
                try:
                    self._queue.put_nowait(message)
                except queue.Full:
                    self._dropped = True
        except grpc.RpcError as error:
            end = self._transport.failure(self._method, error)
        except DecodeError:
            end = self._transport.error(self._method, "a message is malformed")
        except ValueError:
            # A channel that was closed.
            pass
        self._end = end
        # Wakes a reader that waits now; a full queue has none.
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(end)
