"""SocketEnricher: the map of sockets' owners that a gadget looks into (spec ebpf-runtime §3.1).

Its value is a struct whose last members have sizes that the user chooses. The object finds out by
relocating against types that contain it, which the kernel's do not.
"""

from __future__ import annotations

import logging
from typing import ClassVar

from ig_py.errors import UsageError
from ig_py.gadget.spec import ParamSpec
from ig_py.operators.base import Context, KernelStruct, Operator
from ig_py.records import dataclass

log = logging.getLogger(__name__)

MAP = "gadget_sockets"
STRUCT = "gadget_socket_value"
PREFIX = "operator.SocketEnricher."
FIELDS = "socket-enricher-fields"
DEFAULT_FIELDS = "cwd=512,exepath=512"
OPTIONAL = ("cwd", "exepath")
MAX_FIELD = 4096
_KEY_SIZE = 12
_FIXED = 88
"""Where the optional members begin."""
_MEMBERS = (
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


@dataclass(frozen=True)
class Layout:
    """Bytes of each optional member; 0: it is not there."""

    cwd: int = 0
    exepath: int = 0

    def struct(self) -> KernelStruct:
        members = list(_MEMBERS)
        at = _FIXED
        for name in OPTIONAL:
            if size := getattr(self, name):
                members.append((name, at, 1, size))
                at += size
        return KernelStruct(STRUCT, at, tuple(members))


def parse_layout(text: str) -> Layout:
    """``cwd=512,exepath=512`` → sizes. :class:`UsageError` for what is no such list."""
    sizes = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        name, _, size = part.partition("=")
        valid = size.isascii() and size.isdigit() and len(size) <= 4
        number = int(size) if valid else 0
        if name not in OPTIONAL or not 0 < number <= MAX_FIELD or number & (number - 1):
            raise UsageError(
                f'--{FIELDS}: "{part}" is not cwd=SIZE or exepath=SIZE with a power of two '
                f"up to {MAX_FIELD}"
            )
        sizes[name] = number
    return Layout(**sizes)


class SocketEnricher(Operator):
    name: ClassVar[str] = "SocketEnricher"
    priority: ClassVar[int] = 10

    def __init__(self) -> None:
        self._struct = Layout().struct()

    @classmethod
    def global_params(cls) -> list[ParamSpec]:
        return [
            ParamSpec(
                key=FIELDS,
                prefix=PREFIX,
                default=DEFAULT_FIELDS,
                title="Socket enricher fields",
                description="What is known of sockets' owners beside names and ids: a list of "
                "cwd=SIZE and exepath=SIZE (bytes, powers of two)",
                type_hint="[]string",
            )
        ]

    def instantiate(self, ctx: Context) -> bool:
        declared = ctx.spec.map(MAP)
        if declared is None or declared.key_size != _KEY_SIZE:
            return False
        self._struct = parse_layout(ctx.param(PREFIX + FIELDS, DEFAULT_FIELDS)).struct()
        return True

    def pre_start(self, ctx: Context) -> None:
        log.warning("owners of sockets are not known to this version: %s stays empty", MAP)
        ctx.kernel_structs.append(self._struct)
        ctx.value_sizes[MAP] = self._struct.size
