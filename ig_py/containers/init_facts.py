"""What a container's init process adds to its description: namespaces, cgroup, OCI bundle."""

from __future__ import annotations

from ig_py.containers.model import Container
from ig_py.containers.oci_bundle import BundleReader, annotated, annotations_of
from ig_py.containers.speakers import Speaker
from ig_py.host.files import inode
from ig_py.host.proc import HostView, Process
from ig_py.records import replace


def with_process(
    view: HostView,
    container: Container,
    process: Process,
    speaker: Speaker,
    mntns: int,
    bundles: BundleReader | None,
) -> Container | None:
    """*container* with the facts of its init *process*; None for a pod's sandbox.

    *speaker*: who says that it is. *mntns*: its mount namespace as the kernel's scout told, for
    where it may not be read. *bundles*: to read its config.json, whose annotations count more than
    the description; None to leave it.

    Raises:
        HostReadError: The host cannot be read.
    """
    if bundles:
        config = bundles.of_init(process.pid, container.id, container.bundle, process.owner)
        told = annotated(container, annotations_of(config))
        if told is None:
            return None
        container = replace(told, oci_config=config)
    host_network = container.host_network
    if process.netns and view.host_network is not None:
        host_network = process.netns == view.host_network
    netns = process.netns
    if not speaker.is_root and not host_network and process.net_owner != speaker.user:
        # A network namespace of another user, whose events are not of this container.
        netns = 0
    path, cgroup_id = _cgroup(view, process)
    return replace(
        container,
        bundle="",
        runtime=replace(container.runtime, pid=process.pid, started_at=process.started_at),
        mntns=process.mntns or mntns,
        netns=netns,
        host_network=host_network,
        cgroup_path=path,
        cgroup_id=cgroup_id,
        cgroup_v1=process.cgroups.v1,
        cgroup_v2=process.cgroups.v2,
        owner=process.owner,
    )


def _cgroup(view: HostView, process: Process) -> tuple[str, int]:
    """Path and id of its cgroup of version 2; "" and 0 where there is none to be seen."""
    mount = view.cgroup2_mount() if process.cgroups.v2 else ""
    if not mount:
        return "", 0
    path = f"{mount}{process.cgroups.v2}"
    # kernfs gives the 64-bit id of a cgroup as its inode number.
    number = inode(path)
    return (path, number) if number else ("", 0)
