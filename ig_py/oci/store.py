"""The local store: an OCI image layout shared with ``ig`` (docs/reference/image-format.md#store).

Writers take the lock, read ``index.json`` again and replace it by a rename: readers need no
lock. ``ig`` writes the file in place: a reader that finds it incomplete reads it again under a
shared lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ig_py.errors import ImageNotFound, IntegrityError, LimitError, StoreError
from ig_py.host.scratch import new_file
from ig_py.oci import digest as digests
from ig_py.oci import document, gojson, limits, lock, media, walk
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import Index
from ig_py.oci.entries import Entries, parsed, ref_name
from ig_py.oci.ingest import INGEST, Ingest, fsync_dir, made_directory, sweep
from ig_py.oci.pack import PackedImage
from ig_py.oci.source import (
    BLOBS,
    INDEX_FILE,
    LAYOUT_FILE,
    LayoutSource,
    MemorySource,
    storage,
)
from ig_py.records import dataclass, field

ROOT_STORE = Path("/var/lib/ig/oci-store")
USER_STORE = Path(".ig/oci-store")
STORE_VARIABLE = "IG_PY_STORE"

LOCK_FILE = "index.json.lock"
LAYOUT_CONTENT = b'{"imageLayoutVersion":"1.0.0"}'
_DIR_MODE = 0o700
_FILE_MODE = 0o644


@dataclass(frozen=True)
class StoredImage:
    """A tag of the store."""

    name: str
    descriptor: Descriptor


@dataclass
class _Change:
    entries: list[dict[str, Any]]
    garbage: set[str] = field(default_factory=set)


def default_path() -> Path:
    """``$IG_PY_STORE``, root's store, or the one below the user's home directory."""
    chosen = os.environ.get(STORE_VARIABLE)
    if chosen:
        return Path(chosen)
    if os.geteuid() == 0:
        return ROOT_STORE
    import pwd

    with suppress(KeyError):
        return Path(pwd.getpwuid(os.geteuid()).pw_dir) / USER_STORE
    return Path.home() / USER_STORE


class Store(LayoutSource):
    """Images by tag.

    Raises:
        StoreError: From every method: the store cannot be read or written.
        IntegrityError: From every method: ``index.json`` is malformed.
        LimitError: From every method: ``index.json`` is or would become too large.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root, name=f"store {root}")

    @classmethod
    def open(cls, path: Path | str | None = None) -> Store:
        """The store at *path* (default: :func:`default_path`); created by the first write."""
        return cls(Path(path) if path else default_path())

    # Reading

    def index(self) -> Index:
        """The current ``index.json``; empty when there is no store yet."""
        if not self._exists():
            return self._parse(_index_bytes([]))
        try:
            return self._parse(self._index_bytes())
        except IntegrityError:
            if not (self.root / LOCK_FILE).exists():
                raise
            with storage(f"locking {self.name}"), lock.shared(self.root / LOCK_FILE):
                return self._parse(self._index_bytes())

    def images(self) -> list[StoredImage]:
        """Every tag, by full reference."""
        found = {
            name: d for d in self.index().manifests if (name := d.annotations.get(media.REF_NAME))
        }
        return [StoredImage(name, found[name]) for name in sorted(found, key=str.encode)]

    def resolve(self, name: str) -> Descriptor:
        """The image stored under exactly this reference, or under this digest.

        Raises:
            ImageNotFound: There is none.
        """
        found = _find(self.index().manifests, name)
        if found is None:
            raise self._not_found(name)
        return found

    # Writing

    def ingest(self) -> Ingest:
        """A session that stages blobs for :meth:`commit`."""
        self._create()
        return Ingest(self)

    def commit(
        self,
        session: Ingest,
        images: Sequence[tuple[Descriptor, str | None]],
        untagged: Sequence[Descriptor] = (),
    ) -> None:
        """Publish staged blobs and list *images* (descriptor, reference or None) and the
        *untagged* documents below them, in one step.
        """
        with self._changing() as change:
            session.publish()
            entries = Entries(change.entries)
            for descriptor, name in images:
                entries.put(descriptor, name)
            for descriptor in untagged:
                entries.put(descriptor, None)
            change.entries = entries.documents()

    def add(self, packed: PackedImage, tag: str | None = None) -> None:
        """Store an image just built; *tag* is a normalised reference."""
        source = MemorySource("image", packed.blobs)
        walked = walk.walk(source, packed.index)
        with self.ingest() as session:
            for descriptor in [*walked.blobs, *(d for d, _ in walked.documents)]:
                if not session.adopt(descriptor):
                    session.write(descriptor, [packed.blobs[descriptor.digest]])
            self.commit(session, [(packed.index, tag)], walked.manifests)

    def tag(self, source: str, name: str) -> Descriptor:
        """Give the image *source* the reference *name* too (both normalised).

        Raises:
            ImageNotFound: There is no image *source*.
        """
        if not self._exists():
            raise self._not_found(source)
        with self._changing() as change:
            found = _find([parsed(e) for e in change.entries], source)
            if found is None:
                raise self._not_found(source)
            entries = Entries(change.entries)
            entries.put(found, name)
            change.entries = entries.documents()
        return found

    def remove(self, name: str) -> None:
        """Delete a tag and, unless another tag has the same image, every blob that no
        remaining tag leads to.

        Raises:
            ImageNotFound: There is no such tag.
        """
        if not self._exists():
            raise self._not_found(name)
        with self._changing() as change:
            tagged = [parsed(e) for e in change.entries if ref_name(e) == name]
            if not tagged:
                raise self._not_found(name)
            digest = tagged[0].digest
            left = [e for e in change.entries if ref_name(e) != name]
            if not any(ref_name(e) and e.get("digest") == digest for e in left):
                change.garbage = self._unreachable([parsed(e) for e in left], tagged[0])
            change.entries = [e for e in left if e.get("digest") not in change.garbage]

    def sweep_garbage(
        self,
        subject_of: Callable[[str], str],
        strays: Callable[[set[str], set[str]], set[str]],
        *,
        dry_run: bool,
    ) -> dict[str, int]:
        """Delete content that no tag refers to: digest → bytes of each blob deleted or to delete.

        *subject_of*: signature tag → digest of its image; empty for another tag. *strays*:
        (digests in use, digests in ``index.json``) → digests to delete. See
        :func:`ig_py.oci.prune.prune`.
        """
        if not self._exists():
            return {}
        if dry_run:
            return self._garbage(list(self.index().manifests), subject_of, strays)[1]
        with self._changing() as change:
            kept, sizes = self._garbage([parsed(e) for e in change.entries], subject_of, strays)
            change.garbage = set(sizes)
            change.entries = [
                e for e in change.entries if (str(e.get("digest")), ref_name(e)) in kept
            ]
        return sizes

    def _garbage(
        self,
        entries: list[Descriptor],
        subject_of: Callable[[str], str],
        strays: Callable[[set[str], set[str]], set[str]],
    ) -> tuple[set[tuple[str, str]], dict[str, int]]:
        """(digest, tag) of the entries to keep, and digest → bytes of the blobs to delete."""
        tagged = [(d, n) for d in entries if (n := d.annotations.get(media.REF_NAME, ""))]
        alive = walk.reachable(self, [d for d, name in tagged if not subject_of(name)])
        about = [d for d, name in tagged if subject_of(name) in alive]
        alive |= walk.reachable(self, about)
        alive |= walk.reachable(self, self._referrers(entries, alive))
        listed = self._listed(entries)
        sizes = {}
        for digest in strays(alive, listed):
            with suppress(OSError):
                sizes[digest] = self.blob_path(digest).lstat().st_size
        kept = {
            (d.digest, name)
            for d in entries
            if d.digest in alive
            for name in [d.annotations.get(media.REF_NAME, "")]
            if not subject_of(name) or subject_of(name) in alive
        }
        return kept, sizes

    def _unreachable(self, left: Sequence[Descriptor], removed: Descriptor) -> set[str]:
        """Digests to delete with the image *removed*; none when a document is damaged.

        Only content that ``index.json`` referred to is deleted: other blobs may belong to an
        image that another tool is writing.
        """
        tagged = [d for d in left if d.annotations.get(media.REF_NAME)]
        untagged = [d for d in left if not d.annotations.get(media.REF_NAME)]
        try:
            alive = walk.reachable(self, tagged)
            alive |= walk.reachable(self, self._referrers(untagged, alive))
        except (IntegrityError, LimitError):
            return set()
        return self._listed([removed, *untagged]) - alive

    def _listed(self, roots: Sequence[Descriptor]) -> set[str]:
        """Digests of *roots* and of all below them that can be read."""
        try:
            return walk.reachable(self, roots)
        except (IntegrityError, LimitError):
            pass
        # A broken document ends the walk: then each root has one of its own.
        found = {root.digest for root in roots}
        for root in roots:
            with suppress(IntegrityError, LimitError):
                found |= walk.reachable(self, [root])
        return found

    def _referrers(self, candidates: Sequence[Descriptor], alive: set[str]) -> list[Descriptor]:
        """Signatures and other documents whose subject is kept."""
        found = []
        for descriptor in candidates:
            with suppress(ImageNotFound, IntegrityError, LimitError):
                raw = self.read(descriptor)
                subject = document.load_json(raw, self.name).get("subject")
                if isinstance(subject, dict) and subject.get("digest") in alive:
                    found.append(descriptor)
        return found

    def _not_found(self, name: str) -> ImageNotFound:
        return ImageNotFound("not found", remedy=f"{name} is not in the {self.name}")

    # Files

    def _exists(self) -> bool:
        with storage(f"opening {self.name}"):
            try:
                (self.root / INDEX_FILE).stat()
            except FileNotFoundError:
                # A link to nowhere and a file in place of a directory are not an empty store.
                if not self.root.exists() and self.root.is_symlink():
                    raise self._no_directory("a link to nowhere") from None
                return False
            except NotADirectoryError:
                raise self._no_directory("not a directory") from None
            return True

    def _no_directory(self, what: str) -> StoreError:
        return StoreError(
            f"opening {self.name}: {what}",
            remedy=f"name a directory with {STORE_VARIABLE} or --oci-store",
        )

    def _create(self) -> None:
        with storage(f"creating {self.name}"):
            self.root.mkdir(mode=_DIR_MODE, parents=True, exist_ok=True)
            if (self.root / LAYOUT_FILE).exists() and self._exists():
                return
            with lock.exclusive(self.root / LOCK_FILE):
                for below in (f"{BLOBS}/sha256", INGEST):
                    os.close(made_directory(self.root, below))
                if not (self.root / LAYOUT_FILE).exists():
                    self._replace(LAYOUT_FILE, LAYOUT_CONTENT)
                if not self._exists():
                    self._replace(INDEX_FILE, _index_bytes([]))

    @contextmanager
    def _changing(self) -> Iterator[_Change]:
        """The entries, read under the lock and written back when the block succeeds."""
        with storage(f"writing to the {self.name}"), lock.exclusive(self.root / LOCK_FILE):
            index = self._parse(self._index_bytes())
            sweep(self)
            change = _Change(list(index.doc["manifests"]))
            yield change
            content = gojson.dumps({**index.doc, "manifests": change.entries})
            if len(content) > limits.MAX_STORE_INDEX:
                raise LimitError(f"{self.name}: index.json would become too large")
            self._replace(INDEX_FILE, content)
            # After index.json, which never lists a missing blob.
            for digest in sorted(change.garbage):
                with suppress(OSError):
                    self._unlink_blob(digest)

    def _unlink_blob(self, digest: str) -> None:
        algorithm, hexa = digests.split(digest)
        parent = made_directory(self.root, f"{BLOBS}/{algorithm}")
        try:
            os.unlink(hexa, dir_fd=parent)
        finally:
            os.close(parent)

    def _replace(self, name: str, content: bytes) -> None:
        with new_file(self.root / name, _FILE_MODE) as file:
            file.write(content)
        fsync_dir(self.root)

    def _parse(self, raw: bytes) -> Index:
        return document.parse_store_index(raw, f"{self.name}: index.json")


def _index_bytes(entries: list[dict[str, Any]]) -> bytes:
    return gojson.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries})


def _find(descriptors: Sequence[Descriptor], name: str) -> Descriptor | None:
    for descriptor in descriptors:
        if descriptor.annotations.get(media.REF_NAME) == name:
            return descriptor
    if digests.is_valid(name):
        return next((d for d in descriptors if d.digest == name), None)
    return None
