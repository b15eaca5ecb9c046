"""The data source ``containers`` of gadgets that ask for it: containers coming and going.

Facts: spec containers-k8s §2.5. Its samples are made here, and pushed through
the same pipeline as those of the kernel.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceType, GadgetSpec, Kind
from ig_py.operators.base import Context

if TYPE_CHECKING:
    from ig_py.containers.collection import Event
    from ig_py.containers.selector import Selector

NAME = "containers"
WANTED = "enable-containers-datasource"
# Name, kind, bytes: the members of a sample, in its order.
_MEMBERS = (
    ("event_type", Kind.STRING, 16),
    ("container_id", Kind.STRING, 136),
    ("cgroup_id", Kind.UINT64, 8),
    ("mntns_id", Kind.UINT64, 8),
    ("name", Kind.STRING, 4104),
)
_HEAD = struct.Struct("=16s136sQQ4104s")


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
        ds.pushed[add_field(ds, name, kind).index] = offset, size
        offset += size
    ds.sample_size = offset
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
            name.encode("utf-8", "replace"),
        )
        self._ctx.emit(NAME, [sample + config.encode("utf-8", "replace")])
