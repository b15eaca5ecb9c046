"""Image archives: export and import (docs/reference/image-format.md#archives)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ig_py.errors import IntegrityError, LimitError, StoreError
from ig_py.host.safe_open import FileRefused, open_argument
from ig_py.host.scratch import new_file
from ig_py.oci import digest as digests
from ig_py.oci import gojson, limits, media, tarfmt, walk
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import Index, parse_layout_index
from ig_py.oci.reference import (
    DEFAULT_REGISTRY,
    Reference,
    RegistryLocation,
    normalize,
    parse_stored,
)
from ig_py.oci.source import (
    BLOBS,
    INDEX_FILE,
    LAYOUT_FILE,
    BlobMissing,
    FileSource,
    opened,
    storage,
    storage_error,
)
from ig_py.oci.staging import Silent, stage
from ig_py.oci.store import LAYOUT_CONTENT, Store
from ig_py.records import replace

_SIGNATURE_TAG = re.compile(r"sha256-[0-9a-f]{64}(\.[a-z]{1,16})?")
_BLOB_MODE = 0o444
_FILE_MODE = 0o644


class ArchiveSource(FileSource):
    """An image archive (tar), read in place. A context manager.

    Raises:
        StoreError: The file cannot be opened or read.
        IntegrityError: It is not an image archive.
        LimitError: It is larger, or has more members, than an image archive may.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            self._file, _ = opened(open_argument(path))
        except FileRefused as err:
            raise StoreError(f"open {path}: {_lower(err.reason)}") from None
        try:
            with storage(f"reading {path}"):
                self._members = tarfmt.scan(self._file, self.name)
            for needed in (LAYOUT_FILE, INDEX_FILE):
                if needed not in self._members:
                    raise IntegrityError(f"{path}: not an image archive: it has no {needed}")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ArchiveSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def index(self) -> Index:
        """``index.json``."""
        return parse_layout_index(self._document(INDEX_FILE), f"{self.name}: index.json")

    def open_blob(self, descriptor: Descriptor) -> tuple[BinaryIO, int]:
        algorithm, hexa = digests.split(descriptor.digest)
        member = self._members.get(f"{BLOBS}/{algorithm}/{hexa}")
        if member is None:
            raise BlobMissing(f"{self.describe(descriptor)}: missing")
        with storage(f"reading {self.name}"):
            file = os.fdopen(os.dup(self._file.fileno()), "rb")
            file.seek(member.offset)
        return file, member.size

    def _document(self, name: str) -> bytes:
        member = self._members[name]
        if member.size > limits.MAX_STORE_INDEX:
            raise LimitError(
                f"{self.name}: {name} of {member.size} bytes exceeds "
                f"the limit of {limits.human(limits.MAX_STORE_INDEX)}"
            )
        with storage(f"reading {self.name}"):
            self._file.seek(member.offset)
            return self._file.read(member.size)


def import_images(
    path: Path, store: Store, default: RegistryLocation = DEFAULT_REGISTRY
) -> list[str]:
    """Add every tagged image of an archive to the store, with its signatures; all or nothing.

    Returns the images' full references; *default* completes short ones.

    Raises:
        StoreError: The archive cannot be read or the store not be written.
        IntegrityError: The archive, or an image in it, is malformed or incomplete.
        LimitError: The archive, or an image in it, exceeds a limit.
        InvalidReference: The name of an image does not parse.
    """
    with ArchiveSource(path) as archive:
        entries = archive.index().manifests
        tagged = [d for d in entries if d.annotations.get(media.REF_NAME)]
        if not tagged:
            raise IntegrityError(f"{path}: none of its images has a name")
        other = next((d for d in entries if not walk.is_document(d)), None)
        if other is not None:
            raise IntegrityError(
                f"{path}: index.json lists {other.media_type!r}, neither an index nor a manifest"
            )
        images = [(d, _full_name(d.annotations[media.REF_NAME], default)) for d in tagged]
        content = walk.walk_all(archive, entries)
        with store.ingest() as session:
            stage(archive, content, session, store, Silent())
            # commit lists a document once: those with a name stay as they are.
            store.commit(session, images, [d for d, _ in content.documents])
    names = [name for _, name in images if name and not _SIGNATURE_TAG.fullmatch(name)]
    return list(dict.fromkeys(names))


def _full_name(name: str, default: RegistryLocation) -> str:
    """The full reference of *name*: other tools write short names into archives.

    Raises:
        InvalidReference: It does not parse.
    """
    if _SIGNATURE_TAG.fullmatch(name) or parse_stored(name) is not None:
        return name
    return str(normalize(name, default))


def export_images(references: Sequence[Reference], store: Store, target: Path) -> None:
    """Write images of the store to *target*; the same images give the same bytes.

    Raises:
        ImageNotFound: The store does not have one of them.
        StoreError: The store cannot be read or *target* not be written.
        IntegrityError: Content of the store is damaged.
        LimitError: An image exceeds a limit.
    """
    entries: dict[tuple[str, str], Descriptor] = {}
    blobs: dict[str, Descriptor] = {}
    for reference in references:
        root = store.resolve(str(reference))
        walked = walk.walk(store, root)
        for descriptor in (*walked.blobs, *(d for d, _ in walked.documents)):
            blobs[descriptor.digest] = descriptor
        named = replace(root, annotations={**root.annotations, media.REF_NAME: str(reference)})
        entries[root.digest, str(reference)] = named
        for descriptor in walked.manifests:
            entries.setdefault((descriptor.digest, ""), descriptor)
        for descriptor, tag in _signatures(store, root, blobs):
            entries.setdefault((descriptor.digest, tag), descriptor)
    index = gojson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media.INDEX,
            "manifests": [entries[key].to_json() for key in sorted(entries)],
        }
    )
    with _created(target) as file:
        try:
            tarfmt.write(file, _members(store, blobs, index))
        except OSError as err:
            raise storage_error(f"writing {target}", err) from err


def _signatures(
    store: Store, image: Descriptor, blobs: dict[str, Descriptor]
) -> Iterator[tuple[Descriptor, str]]:
    """(descriptor, tag) of an image's signatures; their content is added to *blobs*."""
    from ig_py.oci.trust.bundle import collect, local

    bundle = collect(local(store), image)
    for descriptor, _ in bundle.blobs:
        blobs[descriptor.digest] = descriptor
    for descriptor, tag in bundle.entries():
        named = {media.REF_NAME: tag} if tag else {}
        yield replace(descriptor, annotations=named), tag or ""


def _members(
    store: Store, blobs: dict[str, Descriptor], index: bytes
) -> Iterator[tuple[str, int, int, Iterator[bytes]]]:
    for digest, descriptor in sorted(blobs.items()):
        name = f"{BLOBS}/{digest.replace(':', '/')}"
        chunks = store.chunks(descriptor, walk.blob_limit(descriptor))
        yield name, _BLOB_MODE, descriptor.size, chunks
    for name, content in ((INDEX_FILE, index), (LAYOUT_FILE, LAYOUT_CONTENT)):
        yield name, _FILE_MODE, len(content), iter([content])


@contextmanager
def _created(target: Path) -> Iterator[BinaryIO]:
    """A new file, which replaces *target* when the block succeeds.

    A symbolic link at *target* is replaced, not followed; a device or pipe is written to.
    """
    failing = f"creating tar for gadget image: open {target}"
    try:
        special = not stat.S_ISREG(target.stat().st_mode)
    except OSError:
        special = False
    try:
        if special:
            with target.open("wb") as file:
                yield file
            return
    except OSError as err:
        raise StoreError(f"{failing}: {_lower(err.strerror or str(err))}") from err
    try:
        # Writing what is buffered may fail.
        with new_file(target, None) as file, storage(f"writing {target}"):
            yield file
            file.flush()
    except OSError as err:
        raise StoreError(f"{failing}: {_lower(err.strerror or str(err))}") from err


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
