"""Uploads a blob in one request, or in chunks if the registry refuses it as too large."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from ig_py.errors import RegistryError, RegistryUnavailable
from ig_py.oci import limits, transport
from ig_py.oci.artifact import Descriptor
from ig_py.oci.transport import Transport

FIRST_CHUNK = 8 * limits.MIB
MIN_CHUNK = 64 * limits.KIB
"""The smallest chunk to try."""
_TOO_LARGE = 413
_HEADERS = {"Content-Type": "application/octet-stream"}

Advance = Callable[[int], None]
"""Is told how many bytes have moved; negative for bytes that are sent again."""


def upload(
    http: Transport, url: str, descriptor: Descriptor, data: bytes, advance: Advance
) -> None:
    """Upload *data*; *url* is the repository's ``…/blobs/uploads/``.

    Raises:
        RegistryError: The registry cannot be reached or refuses; also one of its kinds.
    """
    pauses = list(transport.RETRY_DELAYS_S)
    while True:
        sent = _Sent(advance)
        try:
            if not _whole(http, url, descriptor, data, sent):
                sent.take_back()
                _in_chunks(http, url, descriptor, data, sent)
            return
        except RegistryUnavailable:
            sent.take_back()
            if not pauses:
                raise
        time.sleep(pauses.pop(0))


def _whole(http: Transport, url: str, descriptor: Descriptor, data: bytes, sent: _Sent) -> bool:
    """False when the registry refuses it as too large."""
    target, _ = _begin(http, url)
    response, _ = http.read(
        "PUT",
        _finishing(target, descriptor),
        headers=_HEADERS,
        body=lambda: _Upload(data, sent),
        ok=(201, _TOO_LARGE),
        seconds=http.timeouts.transfer(len(data)),
    )
    return response.status_code != _TOO_LARGE


def _in_chunks(http: Transport, url: str, descriptor: Descriptor, data: bytes, sent: _Sent) -> None:
    size = min(FIRST_CHUNK, max(len(data) // 2, 1))
    while True:
        target, least = _begin(http, url)
        if _chunks(http, target, data, max(size, least), sent):
            break
        sent.take_back()
        if size <= max(MIN_CHUNK, least):
            raise RegistryError(
                f"PATCH {url}: the registry refuses chunks of {limits.human(size)} as too large"
            )
        size //= 2
    http.read("PUT", _finishing(sent.target, descriptor), headers=_HEADERS, ok=(201,),
              body=lambda: b"")  # fmt: skip


def _chunks(http: Transport, target: str, data: bytes, size: int, sent: _Sent) -> bool:
    """False when the registry refuses a chunk as too large."""
    sent.target = target
    for start in range(0, len(data), size):
        chunk = data[start : start + size]
        response, _ = http.read(
            "PATCH",
            sent.target,
            headers={**_HEADERS, "Content-Range": f"{start}-{start + len(chunk) - 1}"},
            body=lambda chunk=chunk: _Upload(chunk, sent),  # type: ignore[misc]
            ok=(202, _TOO_LARGE),
            seconds=http.timeouts.transfer(len(chunk)),
        )
        if response.status_code == _TOO_LARGE:
            return False
        sent.target = _location(http, sent.target, response)
    return True


def _begin(http: Transport, url: str) -> tuple[str, int]:
    """(URL to upload to, bytes of the smallest chunk that the registry accepts)"""
    response, _ = http.read("POST", url, ok=(202,), body=lambda: b"")
    least = response.headers.get("OCI-Chunk-Min-Length", "")
    known = least.isascii() and least.isdigit() and len(least) < 10
    return _location(http, url, response), min(int(least), limits.MAX_LAYER) if known else 0


def _location(http: Transport, url: str, response: Any) -> str:
    location = response.headers.get("Location", "")
    if not location:
        raise RegistryError(f"{url}: the registry's answer has no upload location")
    return http.check_location(url, location, elsewhere=True)


def _finishing(target: str, descriptor: Descriptor) -> str:
    query = urlencode({"digest": descriptor.digest})
    return f"{target}{'&' if '?' in target else '?'}{query}"


class _Sent:
    """Bytes reported as sent; *target*: URL for the next chunk."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._bytes = 0
        self.target = ""

    def __call__(self, size: int) -> None:
        self._bytes += size
        self._advance(size)

    def take_back(self) -> None:
        self._advance(-self._bytes)
        self._bytes = 0


class _Upload:
    """Bytes as a file that reports how many were read."""

    def __init__(self, data: bytes, advance: Advance) -> None:
        self._view = memoryview(data)
        self._size = len(data)
        self._advance = advance

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        part = bytes(self._view[: len(self._view) if size is None or size < 0 else size])
        self._view = self._view[len(part) :]
        self._advance(len(part))
        return part
