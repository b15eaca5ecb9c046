"""Downloads several blobs of an image at once, over a few connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from ig_py.oci import walk
from ig_py.oci.artifact import Descriptor
from ig_py.oci.ingest import Ingest
from ig_py.oci.registry import Repository

MAX_CONNECTIONS = 3
"""As many as containerd and Docker open: registries throttle clients with more."""


class Advance(Protocol):
    """Is told how many bytes have moved."""

    def advance(self, size: int) -> None: ...


class _Stopped(Exception):
    """Another download failed."""


def download(
    remote: Repository, blobs: Sequence[Descriptor], session: Ingest, progress: Advance
) -> None:
    """Bring *blobs* into *session*, the largest first.

    The first failure stops all downloads and is raised, as is a signal's exception.

    Raises:
        RegistryError: The registry cannot be reached, or denies or lacks a blob.
        IntegrityError: A blob is not what its descriptor says.
        StoreError: A blob cannot be written.
    """
    count = min(MAX_CONNECTIONS, len(blobs))
    remotes = [remote, *(remote.clone() for _ in range(count - 1))]
    downloads = _Downloads(remotes, sorted(blobs, key=lambda d: d.size), session, progress)
    threads = [
        threading.Thread(target=downloads.work, args=(one,), name="ig-download", daemon=True)
        for one in remotes[1:]
    ]
    try:
        for thread in threads:
            thread.start()
        downloads.work(remote)
        for thread in threads:
            thread.join()
    finally:
        downloads.stop(remote)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        for one in remotes[1:]:
            one.close()
    if downloads.failures:
        raise downloads.failures[0]


class _Downloads:
    """Blobs to download by several threads, which take them from the end of *blobs*."""

    def __init__(
        self,
        remotes: Sequence[Repository],
        blobs: list[Descriptor],
        session: Ingest,
        progress: Advance,
    ) -> None:
        self._remotes = remotes
        self._blobs = blobs
        self._session = session
        self._progress = progress
        self._lock = threading.Lock()
        self._stopping = False
        self.failures: list[Exception] = []

    def work(self, remote: Repository) -> None:
        """Download blobs over *remote* until none is left."""
        while True:
            with self._lock:
                if not self._blobs or self._stopping:
                    return
                descriptor = self._blobs.pop()
            try:
                chunks = remote.chunks(descriptor, walk.blob_limit(descriptor))
                self._session.write(descriptor, self._counted(chunks))
            except _Stopped:
                return
            except Exception as err:
                self.failures.append(err)
                self.stop(remote)
                return

    def stop(self, caller: Repository) -> None:
        """Start no further download, and abort those of the other threads."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        for remote in self._remotes:
            if remote is not caller:
                remote.abort()

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            with self._lock:
                if self._stopping:
                    raise _Stopped
                self._progress.advance(len(chunk))
            yield chunk
