"""Deletes content of a store that no tag refers to."""

from __future__ import annotations

import re
import time
from pathlib import Path

from ig_py.oci import limits
from ig_py.oci.ingest import FOREIGN_MAX_AGE_S
from ig_py.oci.source import BLOBS, storage
from ig_py.oci.store import Store
from ig_py.records import dataclass

_SIGNATURE_TAG = re.compile(r"sha256-([0-9a-f]{64})(\.sig)?")


@dataclass(frozen=True)
class Pruned:
    """The digests of the deleted blobs (or, in a dry run, of those to delete) and their bytes."""

    digests: tuple[str, ...]
    size: int

    def __str__(self) -> str:
        return f"{len(self.digests)} blobs, {limits.human(self.size)}"


def prune(store: Store, *, dry_run: bool = False, now: float | None = None) -> Pruned:
    """Delete images without tag, signatures without image, and blobs of no image.

    A blob that ``index.json`` does not refer to may belong to an image that another tool is
    writing: it is deleted when it is :data:`FOREIGN_MAX_AGE_S` old at *now* (Unix seconds).

    Raises:
        StoreError: The store cannot be read or written.
        IntegrityError: A document of a tagged image is damaged, so that its blobs are
            unknown.
    """
    before = (time.time() if now is None else now) - FOREIGN_MAX_AGE_S

    def strays(alive: set[str], known: set[str]) -> set[str]:
        found = set()
        for path in _blob_files(store):
            digest = f"{path.parent.name}:{path.name}"
            if digest not in alive and (digest in known or path.lstat().st_mtime < before):
                found.add(digest)
        return found

    gone = store.sweep_garbage(subject_of, strays, dry_run=dry_run)
    return Pruned(tuple(sorted(gone)), sum(gone.values()))


def subject_of(tag: str) -> str:
    """The digest of the image that a signature tag refers to; empty for another tag."""
    match = _SIGNATURE_TAG.fullmatch(tag)
    return f"sha256:{match[1]}" if match else ""


def _blob_files(store: Store) -> list[Path]:
    with storage(f"reading {store.name}"):
        return [path for path in (store.root / BLOBS).glob("*/*") if path.is_file()]
