"""Limits on the fields of a gadget's data sources, all data sources together.

Data sources may share a struct, and those whose names differ only by case share their entry in
gadget.yaml: without these limits a small image has any number of fields and annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ig_py.errors import LimitError
from ig_py.records import dataclass

MAX_FIELDS = 4096
"""Fields of all data sources of an object's structs."""
MAX_MEMBERS = 1 << 14
"""Members visited in all structs, also those without a field."""
MAX_TEXT = 4 << 20
"""Characters of all names, tags and annotations; each text counts ITEM characters more."""
MAX_PROBES = 1 << 18
"""Look-ups of keys in gadget.yaml: a name with dots is tried with every split of it."""
ITEM = 48
"""Bytes of one text besides its characters, about."""


@dataclass
class Room:
    """What is used already. Every ``take`` method adds to it.

    Raises:
        LimitError: By a ``take`` method that goes beyond a limit above.
    """

    fields: int = 0
    members: int = 0
    text: int = 0
    probes: int = 0

    def take_field(self) -> None:
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise LimitError(f"the gadget's data sources have more than {MAX_FIELDS} fields")

    def take_member(self) -> None:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise LimitError(f"the gadget's data sources have more than {MAX_MEMBERS} members")

    def take_probe(self) -> None:
        self.probes += 1
        if self.probes > MAX_PROBES:
            raise LimitError(f"gadget.yaml: more than {MAX_PROBES} keys to try for its fields")

    def take_texts(self, *texts: Iterable[str]) -> None:
        """Names, tags or annotations (keys and values)."""
        for part in texts:
            for item in part:
                self.text += len(item) + ITEM
            if isinstance(part, Mapping):
                for value in part.values():
                    self.text += len(value)
        if self.text > MAX_TEXT:
            raise LimitError(
                "the names, tags and annotations of the gadget's fields are longer than "
                f"{MAX_TEXT} characters together"
            )
