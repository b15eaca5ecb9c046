"""Copies an image from any source into the store.

The module does not import the registry client: importing an archive needs no HTTP.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from ig_py.errors import StoreError
from ig_py.oci import limits, walk
from ig_py.oci.artifact import Descriptor
from ig_py.oci.ingest import Ingest
from ig_py.oci.source import BlobSource, storage
from ig_py.oci.store import Store

DISK_RESERVE = 4 * limits.MIB
"""Bytes left free on the store's file system."""


class Progress(Protocol):
    """Is told of bytes: how many more to expect, and how many have moved."""

    def expect(self, size: int) -> None: ...

    def advance(self, size: int) -> None: ...


class Silent:
    """A :class:`Progress` that shows nothing."""

    def expect(self, size: int) -> None:
        pass

    def advance(self, size: int) -> None:
        pass


def stage(
    source: BlobSource,
    walked: walk.ImageContent,
    session: Ingest,
    store: Store,
    progress: Progress,
    ahead: Callable[[Sequence[Descriptor]], None] = lambda _missing: None,
) -> None:
    """Stage the content of an image that the store lacks.

    *ahead* may stage some of the missing blobs first, in parallel.

    Raises:
        StoreError: The disk has no room, or a blob cannot be written.
        IgPyError: *source* cannot be read.
    """
    missing = [d for d in walked.blobs if not session.adopt(d)]
    _check_space(store, sum(d.size for d in missing))
    progress.expect(sum(d.size for d in missing))
    ahead(missing)
    for descriptor in missing:
        if not session.staged(descriptor):
            chunks = source.chunks(descriptor, walk.blob_limit(descriptor))
            session.write(descriptor, _counted(chunks, progress))
    for descriptor, raw in walked.documents:
        if not session.adopt(descriptor):
            session.write(descriptor, [raw])


def _counted(chunks: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    for chunk in chunks:
        progress.advance(len(chunk))
        yield chunk


def _check_space(store: Store, needed: int) -> None:
    with storage(f"asking the {store.name} for space"):
        info = os.statvfs(store.root)
    free = info.f_bavail * info.f_frsize
    if needed and free < needed + DISK_RESERVE:
        raise StoreError(
            f"the {store.name} has {limits.human(free)} left and needs {limits.human(needed)}",
            remedy="free some space, or choose another store with IG_PY_STORE",
        )
