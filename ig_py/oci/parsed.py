"""The metadata of a store's images as it was parsed once: reading YAML takes longer than reading
the rest of an image.

Each file has the digest of the metadata in it, and counts only as a file of this user that no other
one can write: what another user puts, links or renames in a store of their own is not read.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from ig_py.errors import IgPyError
from ig_py.host.safe_open import open_beneath
from ig_py.host.scratch import new_file
from ig_py.oci import digest as digests
from ig_py.oci.ingest import made_directory
from ig_py.version import user_version

DIRECTORY = "ig-py-parsed"
"""Below the store."""
MAX_BYTES = 64 << 10
"""Of a file: larger metadata is parsed each time."""
MAX_FILES = 256
"""With more, all are removed: those of images that are used come back."""
_MODE = 0o600


class ParsedMetadata:
    """Of the images of the store at *root*. Nothing here fails: what cannot be read is parsed, and
    what cannot be written is parsed the next time too."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, raw: bytes) -> dict[str, Any] | None:
        """What the metadata *raw* says; None: that is not kept."""
        digest = digests.of(raw)
        try:
            found = json.loads(self._read(f"{DIRECTORY}/{_name(digest)}"))
        except (IgPyError, OSError, ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.get("of") != _of(digest):
            return None
        document = found.get("document")
        return document if isinstance(document, dict) else None

    def _read(self, path: str) -> bytes:
        """b"" when it does not count."""
        fd = open_beneath(self._root, path, owners={os.geteuid()}, deadline_s=None)
        if fd is None:
            return b""
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            alone = stat.S_IMODE(facts.st_mode) == _MODE and facts.st_nlink == 1
            return file.read(MAX_BYTES) if alone and facts.st_size <= MAX_BYTES else b""

    def put(self, raw: bytes, document: dict[str, Any]) -> None:
        """Keep what the metadata *raw* says."""
        digest = digests.of(raw)
        text = json.dumps({"of": _of(digest), "document": document})
        if len(text) > MAX_BYTES or json.loads(text)["document"] != document:
            return
        with suppress(OSError):
            directory = made_directory(self._root, DIRECTORY)
            try:
                with os.scandir(directory) as entries:
                    names = [entry.name for entry in entries]
                for name in names if len(names) >= MAX_FILES else ():
                    os.unlink(name, dir_fd=directory)
                with new_file(Path(f"/proc/self/fd/{directory}/{_name(digest)}"), _MODE) as file:
                    file.write(text.encode())
            finally:
                os.close(directory)


def _name(digest: str) -> str:
    return f"{digests.split(digest)[1]}.json"


def _of(digest: str) -> list[str]:
    """Another version may read the same metadata otherwise."""
    return [digest, user_version()]
