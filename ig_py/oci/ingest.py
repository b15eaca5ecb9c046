"""Writing blobs: hashed while they are written to a private directory, then renamed.

Every session has a directory of its own below ``ingest/`` and locks it until its process
ends; a session directory whose lock is free is a leftover of a killed process.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ig_py.errors import IntegrityError
from ig_py.host.removal import remove_tree
from ig_py.oci import digest as digests
from ig_py.oci.artifact import Descriptor
from ig_py.oci.source import BLOBS, BlobMissing, LayoutSource, kind_name, storage, storage_error

INGEST = "ingest"
SESSION_PREFIX = "igpy-"
BLOB_MODE = 0o444
FOREIGN_MAX_AGE_S = 24 * 3600
"""Age in seconds at which another tool's temporary file counts as abandoned."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Without O_NOFOLLOW, a link that another user made would have files of another place removed."""


class Ingest:
    """Blobs staged for a layout, which shows none of them before :meth:`publish`.

    A context manager; its end deletes blobs that were not published.
    """

    def __init__(self, layout: LayoutSource) -> None:
        self._layout = layout
        self._staged: dict[str, Path] = {}
        with storage(f"writing to the store {layout.name}"):
            self._base = made_directory(layout.root, INGEST)
            try:
                self._name, self._lock = _open_session(self._base)
            except BaseException:
                os.close(self._base)
                raise
        # By its descriptor: whoever can rename the directory cannot lead a file elsewhere.
        self._dir = Path(f"/proc/self/fd/{self._lock}")

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        remove_tree(self._name, dir_fd=self._base)
        os.close(self._lock)
        os.close(self._base)

    def staged(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self._staged

    def adopt(self, descriptor: Descriptor) -> bool:
        """Stage a blob that the store already has, if it is intact.

        A hard link keeps the content even when another process removes the blob
        before this session publishes.
        """
        if self.staged(descriptor):
            return True
        try:
            for _ in self._layout.chunks(descriptor, descriptor.size):
                pass
            path = self._path(descriptor)
            os.link(self._layout.blob_path(descriptor.digest), path, follow_symlinks=False)
        except (IntegrityError, BlobMissing, OSError):
            return False
        self._staged[descriptor.digest] = path
        return True

    def write(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Stage a blob from a stream; nothing is kept when that fails.

        Raises:
            IntegrityError: The stream is not what *descriptor* says.
            StoreError: It cannot be written.
        """
        if self.staged(descriptor):
            return
        what = f"{kind_name(descriptor.media_type)} {descriptor.digest}"
        verifier = digests.Verifier(descriptor.digest, descriptor.size, what)
        path = self._path(descriptor)
        done = False
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb", buffering=0) as file:
                for chunk in chunks:
                    verifier.update(chunk)
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
                verifier.finish()
                os.fchmod(fd, BLOB_MODE)
                os.fsync(fd)
            done = True
        except OSError as err:
            raise storage_error(f"writing {what} to the store {self._layout.name}", err) from err
        finally:
            if not done:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        self._staged[descriptor.digest] = path

    def publish(self) -> None:
        """Make the staged blobs visible. The caller holds the store's lock."""
        parents: dict[str, int] = {}
        try:
            for digest, staged in self._staged.items():
                algorithm, hexa = digests.split(digest)
                if algorithm not in parents:
                    below = f"{BLOBS}/{algorithm}"
                    parents[algorithm] = made_directory(self._layout.root, below)
                os.replace(staged, hexa, dst_dir_fd=parents[algorithm])
            for parent in parents.values():
                os.fsync(parent)
        finally:
            for parent in parents.values():
                os.close(parent)
        self._staged.clear()

    def _path(self, descriptor: Descriptor) -> Path:
        _, hexa = digests.split(descriptor.digest)
        return self._dir / f"{hexa}_{os.urandom(4).hex()}"


def made_directory(root: Path, below: str) -> int:
    """A descriptor of the directory *below* a store, which is made where it is missing.

    Raises:
        OSError: It cannot be made, or a part of it is no directory. Another user may have made the
            store: no link is followed.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in below.split("/"):
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=fd)
            inner = os.open(name, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_session(base: int) -> tuple[str, int]:
    while True:
        name = SESSION_PREFIX + os.urandom(8).hex()
        os.mkdir(name, 0o700, dir_fd=base)
        # Until the lock is held, another process may delete the directory as a leftover.
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=base)
        except FileNotFoundError:
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)
        # A directory that was deleted has no name (Linux counts its links as 0).
        if os.fstat(fd).st_nlink:
            return name, fd
        os.close(fd)


def sweep(layout: LayoutSource) -> None:
    """Delete what killed processes left in ``ingest/``; best effort."""
    with suppress(OSError):
        base = os.open(layout.root / INGEST, _DIRECTORY)
        try:
            with os.scandir(base) as entries:
                names = [entry.name for entry in entries]
            for name in names:
                if name.startswith(SESSION_PREFIX):
                    _sweep_session(base, name)
                else:
                    _sweep_foreign(base, name)
        finally:
            os.close(base)


def _sweep_session(base: int, name: str) -> None:
    with suppress(OSError):
        fd = os.open(name, _DIRECTORY, dir_fd=base)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(name, dir_fd=base)
        finally:
            os.close(fd)


def _sweep_foreign(base: int, name: str) -> None:
    with suppress(OSError):
        info = os.stat(name, dir_fd=base, follow_symlinks=False)
        if time.time() - info.st_mtime > FOREIGN_MAX_AGE_S:
            os.unlink(name, dir_fd=base)


def fsync_dir(path: Path) -> None:
    """Make a rename in *path* durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
