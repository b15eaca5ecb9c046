"""Sources of an image's blobs, which are verified while they are read."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ig_py.errors import ImageNotFound, LimitError, StoreError
from ig_py.host.safe_open import FileRefused, Links, open_beneath
from ig_py.oci import digest as digests
from ig_py.oci import limits, media
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import Index, inline_data, parse_layout_index

CHUNK = 1 << 20

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
BLOBS = "blobs"


class BlobMissing(ImageNotFound):
    """A document names a blob that its source does not have."""


class BlobSource(ABC):
    """Blobs by digest. *name* is for error messages."""

    name: str

    def describe(self, descriptor: Descriptor) -> str:
        return f"{self.name}: {kind_name(descriptor.media_type)} {descriptor.digest}"

    def chunks(self, descriptor: Descriptor, limit: int) -> Iterator[bytes]:
        """The blob's content, which is verified only at the iterator's last step.

        Raises:
            LimitError: It has more than *limit* bytes; before anything is read.
            IntegrityError: Its digest or size is wrong; at the last step.
            BlobMissing: It is not there.
            IgPyError: It cannot be read.
        """
        what = self.describe(descriptor)
        if descriptor.size > limit:
            raise LimitError(
                f"{what}: its declared size of {descriptor.size} bytes exceeds "
                f"the limit of {limits.human(limit)}"
            )
        inline = inline_data(descriptor)
        if inline is not None:
            yield inline
            return
        verifier = digests.Verifier(descriptor.digest, descriptor.size, what)
        for chunk in self._content(descriptor):
            verifier.update(chunk)
            yield chunk
        verifier.finish()

    def read(self, descriptor: Descriptor, limit: int = limits.MAX_DOCUMENT) -> bytes:
        """The whole blob, verified.

        Raises:
            LimitError: It has more than *limit* bytes.
            IntegrityError: Its digest or size is wrong.
            BlobMissing: It is not there.
            IgPyError: It cannot be read.
        """
        return b"".join(self.chunks(descriptor, limit))

    @abstractmethod
    def _content(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Unverified content.

        Raises:
            BlobMissing: It is not there.
            IgPyError: It cannot be read.
        """


class FileSource(BlobSource):
    """Blobs in files."""

    @abstractmethod
    def open_blob(self, descriptor: Descriptor) -> tuple[BinaryIO, int]:
        """An open file at the blob's start, and the bytes it holds.

        Raises:
            BlobMissing: It is not there.
            StoreError: It cannot be opened.
        """

    def _content(self, descriptor: Descriptor) -> Iterator[bytes]:
        what = self.describe(descriptor)
        file, actual = self.open_blob(descriptor)
        with file:
            if actual != descriptor.size:
                raise digests.Damaged(
                    f"{what}: {actual} bytes instead of the declared {descriptor.size}"
                )
            left = actual
            while left > 0:
                try:
                    chunk = file.read(min(CHUNK, left))
                except OSError as err:
                    raise storage_error(f"reading {what}", err) from err
                if not chunk:
                    return
                left -= len(chunk)
                yield chunk


class MemorySource(BlobSource):
    """Blobs in memory, e.g. of an image just packed."""

    def __init__(self, name: str, blobs: Mapping[str, bytes]) -> None:
        self.name = name
        self._blobs = blobs

    def _content(self, descriptor: Descriptor) -> Iterator[bytes]:
        data = self._blobs.get(descriptor.digest)
        if data is None:
            raise BlobMissing(f"{self.describe(descriptor)}: missing")
        yield data


class LayoutSource(FileSource):
    """An OCI image layout directory, read only."""

    def __init__(self, root: Path, *, name: str = "") -> None:
        self.root = root
        self.name = name or str(root)

    def blob_path(self, digest: str) -> Path:
        """The file of a blob.

        Raises:
            IntegrityError: *digest* is not a valid one.
        """
        algorithm, hexa = digests.split(digest)
        return self.root / BLOBS / algorithm / hexa

    def open_blob(self, descriptor: Descriptor) -> tuple[BinaryIO, int]:
        algorithm, hexa = digests.split(descriptor.digest)
        try:
            fd = self._open(f"{BLOBS}/{algorithm}/{hexa}")
        except FileRefused as err:
            raise refused(f"reading {self.describe(descriptor)}", err) from None
        if fd is None:
            raise BlobMissing(f"{self.describe(descriptor)}: missing")
        return opened(fd)

    def index(self) -> Index:
        """``index.json``.

        Raises:
            StoreError: It cannot be read.
            IntegrityError: It is malformed.
            LimitError: It is too large.
        """
        return parse_layout_index(self._index_bytes(), f"{self.name}: index.json")

    def _index_bytes(self) -> bytes:
        path = self.root / INDEX_FILE
        try:
            fd = self._open(INDEX_FILE)
        except FileRefused as err:
            raise refused(f"reading {path}", err) from None
        if fd is None:
            raise StoreError(f"reading {path}: {os.strerror(errno.ENOENT)}")
        with storage(f"reading {path}"):
            file, size = opened(fd)
            with file:
                if size > limits.MAX_STORE_INDEX:
                    raise LimitError(
                        f"{path}: {limits.human(size)} exceeds the limit of "
                        f"{limits.human(limits.MAX_STORE_INDEX)}"
                    )
                return file.read(limits.MAX_STORE_INDEX + 1)

    def _open(self, name: str) -> int | None:
        # Another user may have made the layout: no link in it may lead out of it.
        return open_beneath(self.root, name, links=Links.BENEATH, one_mount=False, deadline_s=None)


def opened(fd: int) -> tuple[BinaryIO, int]:
    """The file of a descriptor, which it takes over, and the file's size."""
    return os.fdopen(fd, "rb"), os.fstat(fd).st_size


def kind_name(media_type: str) -> str:
    """A media type as error messages name it."""
    return {
        media.INDEX: "index",
        media.MANIFEST: "manifest",
        media.CONFIG_YAML: "metadata",
        media.EMPTY_CONFIG: "config",
        media.EBPF_LAYER: "eBPF layer",
        media.WASM_LAYER: "wasm layer",
        media.BTFGEN_LAYER: "BTF layer",
    }.get(media_type, "blob")


def storage_error(attempt: str, err: OSError) -> StoreError:
    """*err* as a :class:`StoreError`, with a remedy for the usual causes."""
    reason = err.strerror or str(err)
    remedy = ""
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space and try again; nothing incomplete was kept"
    elif err.errno in (errno.EACCES, errno.EPERM):
        remedy = "run as root, or name a store of your own with IG_PY_STORE"
    elif err.errno == errno.EROFS:
        remedy = "name a writable store with IG_PY_STORE"
    return StoreError(f"{attempt}: {reason}", remedy=remedy)


def refused(attempt: str, err: FileRefused) -> StoreError:
    """*err* as a :class:`StoreError`."""
    if isinstance(err.__cause__, OSError) and err.refusal == "error":
        return storage_error(attempt, err.__cause__)
    return StoreError(f"{attempt}: {err.reason}")


@contextmanager
def storage(attempt: str) -> Iterator[None]:
    """OSError → :class:`StoreError` saying that *attempt* failed."""
    try:
        yield
    except OSError as err:
        raise storage_error(attempt, err) from err
