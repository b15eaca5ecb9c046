"""The entries of a store's ``index.json`` while they are changed.

Indexed by name and digest: an archive may bring ten thousand names, while other processes wait
for the lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ig_py.oci import media
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import parse_descriptor
from ig_py.records import replace


def parsed(entry: dict[str, Any]) -> Descriptor:
    """An entry as a descriptor."""
    return parse_descriptor(entry, "index.json entry")


def ref_name(entry: dict[str, Any]) -> str:
    """The reference that an entry is tagged with, empty for none."""
    return str((entry.get("annotations") or {}).get(media.REF_NAME, ""))


class Entries:
    """Entries in order, as documents."""

    def __init__(self, documents: Iterable[dict[str, Any]]) -> None:
        self._entries: dict[int, dict[str, Any]] = {}
        self._named: dict[str, list[int]] = {}
        self._untagged: dict[str, list[int]] = {}
        self._listed: dict[str, int] = {}
        self._next = 0
        for document in documents:
            self._append(document)

    def documents(self) -> list[dict[str, Any]]:
        return list(self._entries.values())

    def put(self, descriptor: Descriptor, name: str | None) -> None:
        """List *descriptor* under *name*, or untagged unless it is listed already.

        The image that had the name before stays listed, untagged, as ``ig`` leaves it.
        """
        plain = {k: v for k, v in descriptor.annotations.items() if k != media.REF_NAME}
        if not name:
            if not self._listed.get(descriptor.digest):
                self._append(replace(descriptor, annotations=plain).to_json())
            return
        before = [self._remove(key) for key in self._named.get(name, ())[:]]
        for key in self._untagged.get(descriptor.digest, ())[:]:
            self._remove(key)
        self._append(replace(descriptor, annotations={**plain, media.REF_NAME: name}).to_json())
        for old in before:
            self.put(parsed(old), None)

    def _append(self, document: dict[str, Any]) -> None:
        key, self._next = self._next, self._next + 1
        self._entries[key] = document
        self._keys(document).append(key)
        digest = str(document.get("digest"))
        self._listed[digest] = self._listed.get(digest, 0) + 1

    def _remove(self, key: int) -> dict[str, Any]:
        document = self._entries.pop(key)
        self._keys(document).remove(key)
        self._listed[str(document.get("digest"))] -= 1
        return document

    def _keys(self, document: dict[str, Any]) -> list[int]:
        """Keys of the entries with the same name, or of the same digest without a name."""
        if name := ref_name(document):
            return self._named.setdefault(name, [])
        return self._untagged.setdefault(str(document.get("digest")), [])
