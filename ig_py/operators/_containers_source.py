"""The data source ``containers`` of gadgets that ask for it: an event for each container that is
created or deleted.

Facts: docs/containers.md#the-data-source-containers. Its samples are made here, and pushed through
the same pipeline as those of the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ig_py.gadget.datasource import add_field
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceType, GadgetSpec, Kind
from ig_py.operators import _samples
from ig_py.operators._samples import Member, Samples

if TYPE_CHECKING:
    from ig_py.containers.collection import Event
    from ig_py.host.proc import HostView
    from ig_py.operators.running import Running

NAME = "containers"
WANTED = "enable-containers-datasource"
_MEMBERS = (
    Member("event_type", Kind.STRING, size=16),
    Member("container_id", Kind.STRING, size=136),
    Member("cgroup_id", Kind.UINT64),
    Member("mntns_id", Kind.UINT64),
    Member("name", Kind.STRING, size=4104),
)


def declare(spec: GadgetSpec) -> Samples | None:
    """Add the data source if gadget.yaml asks for it.

    Raises:
        MetadataError: The gadget has a data source of that name.
    """
    asked = Metadata(spec.metadata).texts(["annotations"]).get(WANTED, "")
    if asked.lower() != "true":
        return None
    ds = _samples.declare(spec, NAME, DataSourceType.SINGLE, {"cli.default-output-mode": "none"})
    samples = Samples(ds, _MEMBERS)
    ds.rest = add_field(ds, "container_config", Kind.STRING).index
    return samples


class ContainerEvents:
    """What is shown of selected containers (``SelectedEvents``): emits an event for each that is
    created or deleted."""

    def __init__(self, running: Running, samples: Samples) -> None:
        self._running = running
        self._samples = samples

    def __call__(self, event: Event) -> None:
        from ig_py.containers.collection import EventType

        # Gadgets know no event of a container that has only got another name.
        if event.type is EventType.UPDATED:
            return
        container = event.container
        self._emit(
            event.type.value,
            container.id,
            container.cgroup_id,
            container.mntns,
            container.runtime.container_name,
            container.oci_config,
        )

    def emit_host(self, view: HostView) -> None:
        """An event for the host, whose mount namespace is that of process 1."""
        self._emit("CREATED", "", 0, view.namespace(1, "mnt") or 0, "", "")

    def _emit(
        self, kind: str, container_id: str, cgroup_id: int, mntns: int, name: str, config: str
    ) -> None:
        sample = self._samples.pack(
            {
                "event_type": kind,
                "container_id": container_id,
                "cgroup_id": cgroup_id,
                "mntns_id": mntns,
                "name": name,
            }
        )
        self._running.emit(NAME, [sample + config.encode("utf-8", "replace")])
