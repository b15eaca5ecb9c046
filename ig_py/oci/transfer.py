"""Pull and push: whole images between the store and a registry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from ig_py.errors import IgPyError, IntegrityError, RegistryError, StoreError
from ig_py.oci import graph, limits, media, parallel
from ig_py.oci.artifact import Descriptor
from ig_py.oci.ingest import Ingest
from ig_py.oci.places import places
from ig_py.oci.reference import Reference
from ig_py.oci.registry import RegistryOptions, Repository
from ig_py.oci.source import BlobSource, storage
from ig_py.oci.store import Store

DISK_RESERVE = 4 * limits.MIB
"""Bytes left free on the store's file system."""


class Progress(Protocol):
    """Hears of bytes: how many more to expect, and how many have moved."""

    def expect(self, size: int) -> None: ...

    def advance(self, size: int) -> None: ...


class Silent:
    """Nobody looks."""

    def expect(self, size: int) -> None:
        pass

    def advance(self, size: int) -> None:
        pass


def pull(
    reference: Reference,
    store: Store,
    options: RegistryOptions,
    progress: Progress | None = None,
    on_message: Callable[[str], None] | None = None,
    digest: str = "",
) -> Descriptor:
    """Copy an image, all architectures, into the store under its reference.

    Its signatures come along; *on_message* hears when they could not be fetched. *digest*:
    fetch exactly this, whatever the tag means by now. The store is changed in one step at the
    end, or not at all. Raises
    :class:`RegistryError`, :class:`IntegrityError`, :class:`LimitError`,
    :class:`StoreError`.
    """
    from ig_py.oci.trust import fetch

    with asked(reference, options, on_message) as remote:
        root = remote.resolve(digest or reference.digest or reference.tag)
        if root.media_type != media.INDEX:
            raise IntegrityError(f'image "{reference}" is not an image index')
        walked = graph.walk(remote, root)
        with store.ingest() as session:
            stage(remote, walked, session, store, progress or Silent())
            try:
                signatures = fetch.collect(fetch.RemoteSignatures(remote), root)
            except IgPyError as err:
                signatures = fetch.Bundle(root)
                if on_message:
                    on_message(f"the signatures of {reference} could not be fetched: {err}")
            signatures.stage(session)
            images = [(root, str(reference)), *signatures.entries()]
            store.commit(session, images, walked.manifests)
    return root


@contextmanager
def asked(
    reference: Reference, options: RegistryOptions, on_message: Callable[[str], None] | None
) -> Iterator[Repository]:
    """The repository to fetch *reference* from: on its mirror when that has it."""
    *mirrors, own = places(reference)
    for place in mirrors:
        with Repository(place, options) as remote:
            try:
                remote.resolve(reference.digest or reference.tag)
            except RegistryError as err:
                if on_message:
                    on_message(f"the mirror does not have {reference}: {err}")
                continue
            yield remote
            return
    with Repository(own, options) as remote:
        yield remote


def copy(
    source: BlobSource,
    root: Descriptor,
    store: Store,
    name: str,
    progress: Progress | None = None,
) -> None:
    """Copy the image *root* of *source* into the store under *name*; errors as :func:`pull`."""
    walked = graph.walk(source, root)
    with store.ingest() as session:
        stage(source, walked, session, store, progress or Silent())
        store.commit(session, [(root, name)], walked.manifests)


def stage(
    source: BlobSource,
    walked: graph.Graph,
    session: Ingest,
    store: Store,
    progress: Progress,
) -> None:
    """Bring what the store lacks of an image into *session*."""
    missing = [d for d in walked.blobs if not session.adopt(d)]
    _check_space(store, sum(d.size for d in missing))
    progress.expect(sum(d.size for d in missing))
    if isinstance(source, Repository) and len(missing) > 1:
        parallel.download(source, missing, session, progress)
    for descriptor in missing:
        if not session.staged(descriptor):
            chunks = source.chunks(descriptor, graph.blob_limit(descriptor))
            session.write(descriptor, _counted(chunks, progress))
    for descriptor, raw in walked.documents:
        if not session.adopt(descriptor):
            session.write(descriptor, [raw])


def push(
    reference: Reference,
    store: Store,
    options: RegistryOptions,
    progress: Progress | None = None,
) -> Descriptor:
    """Copy an image of the store to its registry: blobs, then manifests, the tag last;
    then its signatures.

    Raises :class:`ImageNotFound`, :class:`RegistryError`, :class:`IntegrityError` for
    damage in the store.
    """
    progress = progress or Silent()
    from ig_py.oci.trust import fetch

    root = store.resolve(str(reference))
    walked = graph.walk(store, root)
    with Repository(reference, options, write=True) as remote:
        if reference.tag and remote.tagged(reference.tag) == root.digest:
            fetch.push_signatures(remote, store, root)
            return root
        missing = [d for d in walked.blobs if not remote.has_blob(d)]
        progress.expect(sum(d.size for d in missing))
        for descriptor in missing:
            data = store.read(descriptor, graph.blob_limit(descriptor))
            remote.put_blob(descriptor, data, progress.advance)
        for descriptor, raw in reversed(walked.documents[1:]):
            remote.put_document(descriptor, raw)
        remote.put_document(root, walked.documents[0][1], reference.tag)
        fetch.push_signatures(remote, store, root)
    return root


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
