"""A container's OCI runtime bundle: where its config.json is, and what its annotations tell.

The bundle is found through the parent of the container's init: containerd's shim works in it, the
conmon of podman and CRI-O names it in its arguments. It is read through ``/proc/PARENT/root``, as
the parent sees the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ig_py.containers.conmon import conmon_of
from ig_py.containers.model import Container, labels
from ig_py.host.proc import HostView
from ig_py.records import dataclass, replace

MAX_CONFIG = 16 * 1024 * 1024
CONFIG_FILES = ("config.json", "userdata/config.json")
MANAGER = "io.container.manager"


@dataclass(frozen=True, slots=True)
class _Keys:
    """The annotations of one engine."""

    runtime: str
    namespace: str
    pod_name: str
    pod_uid: str
    container_name: str
    kind: str
    image: str
    sandbox_id: str


_CONTAINERD = _Keys(
    "containerd",
    *(
        f"io.kubernetes.cri.{key}"
        for key in (
            "sandbox-namespace",
            "sandbox-name",
            "sandbox-uid",
            "container-name",
            "container-type",
            "image-name",
            "sandbox-id",
        )
    ),
)
_CRIO = _Keys(
    "cri-o",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.uid",
    "io.kubernetes.container.name",
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.SandboxID",
)


def read_config(view: HostView, pid: int, container_id: str, bundle: str = "") -> str:
    """Text of the config.json of the container whose init is *pid*; "" when it is not found.

    *bundle*: its directory, "" where that is not known.
    """
    parent = view.status(pid).get("PPid", "")
    places = _places(view, int(parent), container_id) if parent.isdecimal() else ()
    for place in (bundle, *places):
        for name in CONFIG_FILES if place.startswith("/") else ():
            if config := _read(f"{view.proc}/{parent}/root{place}/{name}"):
                return config
    # The root of the parent may not be readable, or the parent has ended.
    return read_bundle(view, bundle)


def read_bundle(view: HostView, bundle: str) -> str:
    """Text of the config.json of a bundle of the host; "" when it is not found."""
    for name in CONFIG_FILES if bundle.startswith("/") else ():
        if config := _read(view.path(f"{bundle}/{name}")):
            return config
    return ""


def _places(view: HostView, parent: int, container_id: str) -> tuple[str, ...]:
    if bundle := conmon_of(view, parent).bundle:
        return (bundle,)
    try:
        cwd = Path(f"{view.proc}/{parent}/cwd").readlink()
    except OSError:
        return ()
    # A pod's shim works in the bundle of the pod's first container.
    own = cwd if cwd.name == container_id else cwd.parent / container_id
    return (str(own),)


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_CONFIG + 1)
    except OSError:
        return ""
    return raw.decode("utf-8", "replace") if len(raw) <= MAX_CONFIG else ""


def annotations_of(config: str) -> dict[str, str]:
    """The annotations of a config.json; {} when it is none."""
    try:
        document: Any = json.loads(config) if config else {}
    except (ValueError, RecursionError):
        return {}
    return labels(document.get("annotations")) if isinstance(document, dict) else {}


def annotated(container: Container, annotations: dict[str, str]) -> Container | None:
    """*container* with what its annotations tell, which counts more; None for a pod's sandbox."""
    manager = annotations.get(MANAGER, "")
    if manager == "libpod":
        return replace(container, runtime=replace(container.runtime, name="podman"))
    if manager == "cri-o":
        keys = _CRIO
    elif _CONTAINERD.kind in annotations:
        keys = _CONTAINERD
    else:
        return container
    if annotations.get(keys.kind) == "sandbox":
        return None
    runtime, k8s = container.runtime, container.k8s
    return replace(
        container,
        runtime=replace(
            runtime, name=keys.runtime, image_name=annotations.get(keys.image) or runtime.image_name
        ),
        k8s=replace(
            k8s,
            namespace=annotations.get(keys.namespace) or k8s.namespace,
            pod_name=annotations.get(keys.pod_name) or k8s.pod_name,
            pod_uid=annotations.get(keys.pod_uid) or k8s.pod_uid,
            container_name=annotations.get(keys.container_name) or k8s.container_name,
        ),
        sandbox_id=annotations.get(keys.sandbox_id) or container.sandbox_id,
    )
