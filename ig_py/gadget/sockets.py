"""The map of sockets' owners as gadgets declare it (gadget/sockets-map.h, docs/sockets.md)."""

from __future__ import annotations

from ig_py.records import dataclass

MAP = "gadget_sockets"
STRUCT = "gadget_socket_value"
KEY_SIZE = 12
MAX_SOCKETS = 16384
FIXED_SIZE = 88
"""Where the optional members of a value begin."""
FIXED = (
    ("mntns", 0, 8, 0),
    ("pid_tgid", 8, 8, 0),
    ("uid_gid", 16, 8, 0),
    ("task", 24, 1, 16),
    ("ptask", 40, 1, 16),
    ("sock", 56, 8, 0),
    ("deletion_timestamp", 64, 8, 0),
    ("ppid", 72, 4, 0),
    ("ptid", 76, 4, 0),
    ("ipv6only", 80, 1, 0),
)
"""Name, offset, width, elements (0: no array)."""
OPTIONAL = ("cwd", "exepath")


@dataclass(frozen=True)
class Layout:
    """Bytes of each optional member; 0: the value does not have it."""

    cwd: int = 0
    exepath: int = 0

    @property
    def value_size(self) -> int:
        return FIXED_SIZE + self.cwd + self.exepath

    def members(self) -> tuple[tuple[str, int, int, int], ...]:
        """All members of a value, in the form of :data:`FIXED`."""
        members = list(FIXED)
        at = FIXED_SIZE
        for name in OPTIONAL:
            if size := getattr(self, name):
                members.append((name, at, 1, size))
                at += size
        return tuple(members)
