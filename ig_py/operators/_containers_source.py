"""The data source ``containers`` of gadgets that ask for it: containers coming and going.

Facts: spec containers-k8s §2.5. Its samples are made here, and pushed through
the same pipeline as those of the kernel.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ig_py.gadget.datasource import add_field, append_field, new_datasource
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceType, Flag, GadgetSpec, Kind
from ig_py.operators.base import Context

if TYPE_CHECKING:
    from ig_py.containers.collection import Event
    from ig_py.containers.selector import Selector

NAME = "containers"
WANTED = "enable-containers-datasource"
# Name, kind, bytes: the members of a sample, in its order.
_MEMBERS = (
    ("event_type", Kind.CSTRING, 16),
    ("container_id", Kind.CSTRING, 136),
    ("cgroup_id", Kind.UINT64, 8),
    ("mntns_id", Kind.UINT64, 8),
    ("name", Kind.CSTRING, 4096),
)
_HEAD = struct.Struct("=16s136sQQ4096s")


def wanted(spec: GadgetSpec) -> bool:
    """Whether gadget.yaml asks for the data source."""
    metadata = Metadata()
    metadata.config = spec.metadata
    return metadata.texts(["annotations"]).get(WANTED, "").lower() == "true"


def declare(spec: GadgetSpec) -> bool:
    """Add the data source if it is wanted. Raises MetadataError when its name is taken."""
    if not wanted(spec) or spec.datasource(NAME) is not None:
        return False
    metadata = Metadata()
    metadata.config = spec.metadata
    ds = new_datasource(
        NAME,
        DataSourceType.SINGLE,
        metadata,
        source="operator",
        defaults={"cli.default-output-mode": "none"},
    )
    offset = 0
    for name, kind, size in _MEMBERS:
        field = append_field(
            ds,
            name,
            kind,
            {},
            parent=None,
            tags=(),
            flags=Flag.STATIC_MEMBER,
            order=0,
            payload_index=0,
        )
        field.offset, field.size = offset, size
        offset += size
    ds.sample_size, ds.payloads = offset, 1
    ds.rest = add_field(ds, "container_config", Kind.STRING).index
    spec.datasources.append(ds)
    return True


class Producer:
    """A collection's subscriber: tells the data source of every selected container."""

    def __init__(self, ctx: Context, selector: Selector) -> None:
        self._ctx = ctx
        self._selector = selector

    def __call__(self, event: Event) -> None:
        from ig_py.containers.collection import EventType

        told = (EventType.CREATED, EventType.DELETED)
        if event.type not in told and event.type is not EventType.PRECREATE:
            return
        # Of what is only being made, nothing is known that could be selected by.
        if event.type in told and not self._selector.matches(event.container):
            return
        container = event.container
        self.tell(
            event.type.value,
            container.id,
            container.cgroup_id,
            container.mntns,
            container.runtime.container_name,
            container.oci_config,
        )

    def tell(
        self, kind: str, container_id: str, cgroup_id: int, mntns: int, name: str, config: str
    ) -> None:
        """One event of the data source."""
        sample = _HEAD.pack(
            kind.encode(),
            container_id.encode(),
            cgroup_id,
            mntns,
            name.encode("utf-8", "replace")[:4095],
        )
        self._ctx.emit(NAME, [sample + config.encode("utf-8", "replace")])
