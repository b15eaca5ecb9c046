"""Pull and push: whole images between the store and a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ig_py.errors import IgPyError, IntegrityError, RegistryError
from ig_py.oci import media, parallel, walk
from ig_py.oci.artifact import Descriptor
from ig_py.oci.mirrors import pull_order
from ig_py.oci.reference import Reference
from ig_py.oci.registry import RegistryOptions, Repository
from ig_py.oci.staging import Progress, Silent, stage
from ig_py.oci.store import Store


def pull(
    reference: Reference,
    store: Store,
    options: RegistryOptions,
    progress: Progress | None = None,
    on_message: Callable[[str], None] | None = None,
    digest: str = "",
) -> Descriptor:
    """Copy an image, all architectures, into the store under its reference.

    Its signatures are copied too; *on_message* is told when they cannot be. *digest*: pull
    this content, whatever the tag points at now. The store changes in one step at the end, or
    not at all.

    Raises:
        RegistryError: The registry cannot be reached, or denies or lacks the image.
        IntegrityError: Content is malformed, or not what its descriptor says.
        LimitError: Content exceeds a limit.
        StoreError: The store cannot be written.
    """
    from ig_py.oci.trust.bundle import Bundle, collect
    from ig_py.oci.trust.transfer import RemoteSignatures

    with _open_repository(reference, options, on_message) as remote:
        root = remote.resolve(digest or reference.digest or reference.tag)
        if root.media_type != media.INDEX:
            raise IntegrityError(f'image "{reference}" is not an image index')
        walked = walk.walk(remote, root)
        with store.ingest() as session:
            heard = progress or Silent()

            def ahead(missing: Sequence[Descriptor]) -> None:
                if len(missing) > 1:
                    parallel.download(remote, missing, session, heard)

            stage(remote, walked, session, store, heard, ahead)
            try:
                signatures = collect(RemoteSignatures(remote), root)
            except IgPyError as err:
                signatures = Bundle(root)
                if on_message:
                    on_message(f"the signatures of {reference} could not be fetched: {err}")
            signatures.stage(session)
            images = [(root, str(reference)), *signatures.entries()]
            store.commit(session, images, walked.manifests)
    return root


@contextmanager
def _open_repository(
    reference: Reference, options: RegistryOptions, on_message: Callable[[str], None] | None
) -> Iterator[Repository]:
    """The repository to pull *reference* from: at its first mirror that has it, or its own."""
    *mirrors, own = pull_order(reference)
    for mirror in mirrors:
        with Repository(mirror, options) as remote:
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


def push(
    reference: Reference,
    store: Store,
    options: RegistryOptions,
    progress: Progress | None = None,
) -> Descriptor:
    """Copy an image of the store to its registry: blobs, then manifests, the tag last;
    then its signatures.

    Raises:
        ImageNotFound: The store does not have it.
        RegistryError: The registry cannot be reached, or refuses.
        IntegrityError: Content of the store is damaged.
        LimitError: Content of the store exceeds a limit.
        StoreError: The store cannot be read.
    """
    progress = progress or Silent()
    from ig_py.oci.trust.transfer import push_signatures

    root = store.resolve(str(reference))
    walked = walk.walk(store, root)
    with Repository(reference, options, write=True) as remote:
        if reference.tag and remote.tagged(reference.tag) == root.digest:
            push_signatures(remote, store, root)
            return root
        missing = [d for d in walked.blobs if not remote.has_blob(d)]
        progress.expect(sum(d.size for d in missing))
        for descriptor in missing:
            data = store.read(descriptor, walk.blob_limit(descriptor))
            remote.put_blob(descriptor, data, progress.advance)
        for descriptor, raw in reversed(walked.documents[1:]):
            remote.put_document(descriptor, raw)
        remote.put_document(root, walked.documents[0][1], reference.tag)
        push_signatures(remote, store, root)
    return root
