"""Sending a blob to a registry: in one piece, or in chunks where a registry wants that."""

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
"""A registry that refuses even this is not asked again."""
_TOO_LARGE = 413
_HEADERS = {"Content-Type": "application/octet-stream"}

Heard = Callable[[int], None]
"""Hears how many bytes have moved; negative for those that have to move again."""


def upload(http: Transport, url: str, descriptor: Descriptor, data: bytes, heard: Heard) -> None:
    """Send *data* to where *url* (``…/blobs/uploads/``) says.

    Raises:
        RegistryError: The registry cannot be reached or refuses; also one of its kinds.
    """
    pauses = list(transport.RETRY_DELAYS_S)
    while True:
        told = _Told(heard)
        try:
            if not _whole(http, url, descriptor, data, told):
                told.take_back()
                _in_chunks(http, url, descriptor, data, told)
            return
        except RegistryUnavailable:
            told.take_back()
            if not pauses:
                raise
        time.sleep(pauses.pop(0))


def _whole(http: Transport, url: str, descriptor: Descriptor, data: bytes, told: _Told) -> bool:
    """False when the registry finds it too large."""
    target, _ = _begin(http, url)
    response, _ = http.read(
        "PUT",
        _finishing(target, descriptor),
        headers=_HEADERS,
        body=lambda: _Upload(data, told),
        ok=(201, _TOO_LARGE),
        seconds=http.timeouts.transfer(len(data)),
    )
    return response.status_code != _TOO_LARGE


def _in_chunks(http: Transport, url: str, descriptor: Descriptor, data: bytes, told: _Told) -> None:
    size = min(FIRST_CHUNK, max(len(data) // 2, 1))
    while True:
        target, least = _begin(http, url)
        if _chunks(http, target, data, max(size, least), told):
            break
        told.take_back()
        if size <= max(MIN_CHUNK, least):
            raise RegistryError(
                f"PATCH {url}: the registry refuses chunks of {limits.human(size)} as too large"
            )
        size //= 2
    http.read("PUT", _finishing(told.target, descriptor), headers=_HEADERS, ok=(201,),
              body=lambda: b"")  # fmt: skip


def _chunks(http: Transport, target: str, data: bytes, size: int, told: _Told) -> bool:
    """False when the registry finds one too large."""
    told.target = target
    for start in range(0, len(data), size):
        chunk = data[start : start + size]
        response, _ = http.read(
            "PATCH",
            told.target,
            headers={**_HEADERS, "Content-Range": f"{start}-{start + len(chunk) - 1}"},
            body=lambda chunk=chunk: _Upload(chunk, told),  # type: ignore[misc]
            ok=(202, _TOO_LARGE),
            seconds=http.timeouts.transfer(len(chunk)),
        )
        if response.status_code == _TOO_LARGE:
            return False
        told.target = _location(http, told.target, response)
    return True


def _begin(http: Transport, url: str) -> tuple[str, int]:
    """(where to send, the smallest chunk that the registry takes)"""
    response, _ = http.read("POST", url, ok=(202,), body=lambda: b"")
    least = response.headers.get("OCI-Chunk-Min-Length", "")
    known = least.isascii() and least.isdigit() and len(least) < 10
    return _location(http, url, response), min(int(least), limits.MAX_LAYER) if known else 0


def _location(http: Transport, url: str, response: Any) -> str:
    location = response.headers.get("Location", "")
    if not location:
        raise RegistryError(f"{url}: the registry named no place to upload to")
    return http.check_location(url, location, elsewhere=True)


def _finishing(target: str, descriptor: Descriptor) -> str:
    query = urlencode({"digest": descriptor.digest})
    return f"{target}{'&' if '?' in target else '?'}{query}"


class _Told:
    """What was said to have moved; *target*: where the next part goes."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._bytes = 0
        self.target = ""

    def __call__(self, size: int) -> None:
        self._bytes += size
        self._heard(size)

    def take_back(self) -> None:
        self._heard(-self._bytes)
        self._bytes = 0


class _Upload:
    """Bytes as a file that tells how far it was read."""

    def __init__(self, data: bytes, heard: Heard) -> None:
        self._view = memoryview(data)
        self._size = len(data)
        self._heard = heard

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        part = bytes(self._view[: len(self._view) if size is None or size < 0 else size])
        self._view = self._view[len(part) :]
        self._heard(len(part))
        return part
