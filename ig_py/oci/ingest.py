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
from ig_py.oci import digest as digests
from ig_py.oci.artifact import Descriptor
from ig_py.oci.source import BlobMissing, LayoutSource, kind_name, storage, storage_error

INGEST = "ingest"
SESSION_PREFIX = "igpy-"
BLOB_MODE = 0o444
FOREIGN_MAX_AGE_S = 24 * 3600
"""Age in seconds at which another tool's temporary file counts as abandoned."""


class Ingest:
    """Blobs staged for a layout, which shows none of them before :meth:`publish`.

    A context manager; its end deletes blobs that were not published.
    """

    def __init__(self, layout: LayoutSource) -> None:
        self._layout = layout
        self._staged: dict[str, Path] = {}
        with storage(f"writing to the store {layout.name}"):
            base = layout.root / INGEST
            base.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._dir, self._lock = _open_session(base)

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # shutil imports compressors: that takes longer than reading a store.
        import shutil

        shutil.rmtree(self._dir, ignore_errors=True)
        os.close(self._lock)

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
            os.link(self._layout.blob_path(descriptor.digest), path)
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
        parents: set[Path] = set()
        for digest, staged in self._staged.items():
            target = self._layout.blob_path(digest)
            if target.parent not in parents:
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                parents.add(target.parent)
            staged.replace(target)
        for parent in parents:
            fsync_dir(parent)
        self._staged.clear()

    def _path(self, descriptor: Descriptor) -> Path:
        _, hexa = digests.split(descriptor.digest)
        return self._dir / f"{hexa}_{os.urandom(4).hex()}"


def _open_session(base: Path) -> tuple[Path, int]:
    while True:
        path = base / (SESSION_PREFIX + os.urandom(8).hex())
        path.mkdir(mode=0o700)
        # Until the lock is held, another process may delete the directory as a leftover.
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)
        if path.exists():
            return path, fd
        os.close(fd)


def sweep(layout: LayoutSource) -> None:
    """Delete what killed processes left in ``ingest/``; best effort."""
    base = layout.root / INGEST
    with suppress(OSError):
        for path in base.iterdir():
            if path.name.startswith(SESSION_PREFIX):
                _sweep_session(path)
            else:
                _sweep_foreign(path)


def _sweep_session(path: Path) -> None:
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            import shutil

            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(fd)


def _sweep_foreign(path: Path) -> None:
    with suppress(OSError):
        info = path.lstat()
        if time.time() - info.st_mtime > FOREIGN_MAX_AGE_S:
            path.unlink()


def fsync_dir(path: Path) -> None:
    """Make a rename in *path* durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
