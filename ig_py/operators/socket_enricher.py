"""SocketEnricher: the map of sockets' owners that a gadget looks into (docs/sockets.md).

A value is a struct whose last members have sizes that the user chooses. The gadget's object learns
their offsets by CO-RE relocations: the struct is added to the BTF it is relocated against.
:mod:`ig_py.operators._socket_owners` fills the map.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import UsageError
from ig_py.gadget.sockets import KEY_SIZE, MAP, MAX_SOCKETS, OPTIONAL, STRUCT, Layout
from ig_py.gadget.spec import ParamSpec
from ig_py.operators.base import Context, Operator
from ig_py.operators.parts import KernelStruct, LoadParts

if TYPE_CHECKING:
    from ig_py.operators._socket_owners import Lease
    from ig_py.operators.running import Host

log = logging.getLogger(__name__)

PREFIX = "operator.SocketEnricher."
FIELDS = "socket-enricher-fields"
DEFAULT_FIELDS = "cwd=512,exepath=512"
MAX_FIELD = 4096
DEFAULT_FIELD = 512
"""Bytes of a member that is listed without a size."""


def parse_layout(text: str) -> Layout:
    """``cwd=512,exepath`` → bytes of each member.

    Raises:
        UsageError: It is no such list, or a size is no power of two up to MAX_FIELD.
    """
    sizes = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        name, given, size = part.partition("=")
        valid = size.isascii() and size.isdigit() and len(size) <= 4
        number = int(size) if valid else 0 if given else DEFAULT_FIELD
        if name in sizes:
            raise UsageError(f'--{FIELDS}: "{name}" is given twice', remedy="give it once")
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
        self._layout = Layout()
        self._entries = MAX_SOCKETS
        self._lease: Lease | None = None

    @classmethod
    def global_params(cls) -> list[ParamSpec]:
        return [
            ParamSpec(
                key=FIELDS,
                prefix=PREFIX,
                default=DEFAULT_FIELDS,
                title="Socket enricher fields",
                description="What sockets' owners have beside names and ids: a list of "
                "cwd=SIZE and exepath=SIZE (bytes, powers of two)",
                type_hint="[]string",
            )
        ]

    def instantiate(self, ctx: Context) -> bool:
        # A wrong value is refused for gadgets without this map, too.
        self._layout = parse_layout(ctx.param(PREFIX + FIELDS, DEFAULT_FIELDS))
        declared = ctx.spec.map(MAP)
        if declared is None or declared.key_size != KEY_SIZE:
            return False
        self._entries = declared.max_entries or MAX_SOCKETS
        return True

    def pre_start(self, ctx: Context, load: LoadParts, host: Host) -> None:
        from ig_py._core import CoreError
        from ig_py.operators._socket_owners import acquire

        layout = self._layout
        load.kernel_structs.append(KernelStruct(STRUCT, layout.value_size, layout.members()))
        load.value_sizes[MAP] = layout.value_size
        try:
            self._lease = acquire(layout, self._entries, host.view)
        except CoreError as error:
            log.warning("owners of sockets stay unknown: %s", error.message)
            return
        load.maps[MAP] = self._lease.owners.map

    def stop(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None
