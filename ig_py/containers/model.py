"""A container as plain, comparable data (docs/reference/cli.md#listing-containers).

Everything that an engine or runtime tells is untrusted: it passes :func:`text` or :func:`labels` on
its way in, which bound it and make it valid UTF-8. Control characters are kept as data, and escaped
where they are printed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ig_py.records import dataclass, field

MAX_ID = 128
MAX_NAME = 1024
MAX_LABELS = 256
MAX_LABEL_KEY = 317
"""A Kubernetes label key: a 253 character prefix, a slash, 63 characters."""
MAX_LABEL_VALUE = 4096

_ID = re.compile(r"[A-Za-z0-9_+.-]+")


def valid_id(container_id: object) -> bool:
    """True when *container_id* may name a container: it is used as a file name."""
    return (
        isinstance(container_id, str)
        and len(container_id) <= MAX_ID
        and container_id not in (".", "..")
        and _ID.fullmatch(container_id) is not None
    )


def text(value: object, limit: int = MAX_NAME) -> str:
    """*value* as a bounded, valid string; anything that is no string is ``""``.

    JSON may carry lone surrogates, which no UTF-8 consumer accepts.
    """
    if not isinstance(value, str):
        return ""
    return value[:limit].encode("utf-8", "replace").decode("utf-8")


def labels(value: object) -> dict[str, str]:
    """A bounded copy of a label map; entries that are no strings are left out."""
    if not isinstance(value, Mapping):
        return {}
    result: dict[str, str] = {}
    for key, item in value.items():
        if len(result) == MAX_LABELS:
            break
        if isinstance(key, str) and isinstance(item, str):
            result[text(key, MAX_LABEL_KEY)] = text(item, MAX_LABEL_VALUE)
    return result


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What the container runtime knows. ``pid`` is init's in the host's pid
    namespace (0: unknown); ``started_at`` unix ns, the mtime of /proc/PID."""

    name: str = ""
    container_id: str = ""
    container_name: str = ""
    pid: int = 0
    image_name: str = ""
    image_id: str = ""
    image_digest: str = ""
    started_at: int = 0

    def to_json(self) -> dict[str, Any]:
        return _present(
            runtimeName=self.name,
            containerId=self.container_id,
            containerName=self.container_name,
            containerPid=self.pid,
            containerImageName=self.image_name,
            containerImageId=self.image_id,
            containerImageDigest=self.image_digest,
            containerStartedAt=self.started_at,
        )


@dataclass(frozen=True, slots=True)
class KubernetesInfo:
    """What Kubernetes knows; all empty outside a pod."""

    namespace: str = ""
    pod_name: str = ""
    container_name: str = ""
    pod_uid: str = ""
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    owner_kind: str = ""
    owner_name: str = ""

    def to_json(self) -> dict[str, Any]:
        return _present(
            namespace=self.namespace,
            podName=self.pod_name,
            podLabels=dict(self.pod_labels),
            containerName=self.container_name,
            podUID=self.pod_uid,
        )


@dataclass(frozen=True, slots=True)
class Container:
    """One container. ``mntns`` and ``netns`` are namespace inode numbers (0: unknown).

    ``owner``: the user who made its mount namespace, in a user namespace of their own; None for the
    host's root, and where that is not known. It is not shown.
    """

    runtime: RuntimeInfo = field(default_factory=RuntimeInfo)
    k8s: KubernetesInfo = field(default_factory=KubernetesInfo)
    mntns: int = 0
    netns: int = 0
    host_network: bool = False
    cgroup_path: str = ""
    cgroup_id: int = 0
    cgroup_v1: str = ""
    cgroup_v2: str = ""
    oci_config: str = ""
    bundle: str = ""
    sandbox_id: str = ""
    owner: int | None = None

    @property
    def id(self) -> str:
        return self.runtime.container_id

    def to_json(self) -> dict[str, Any]:
        """The object ``list-containers -o json`` prints: empty values are left
        out, ``runtime`` and ``k8s`` are always there."""
        return {"runtime": self.runtime.to_json(), "k8s": self.k8s.to_json()} | _present(
            ociConfig=self.oci_config,
            bundle=self.bundle,
            sandboxId=self.sandbox_id,
            mntns=self.mntns,
            netns=self.netns,
            hostNetwork=self.host_network,
            cgroupPath=self.cgroup_path,
            cgroupID=self.cgroup_id,
            cgroupV1=self.cgroup_v1,
            cgroupV2=self.cgroup_v2,
        )

    def event_values(self) -> dict[str, str | int | bool]:
        """Full field name → value for events of it (docs/reference/operators.md#containers)."""
        return {
            "k8s.namespace": self.k8s.namespace,
            "k8s.podName": self.k8s.pod_name,
            "k8s.containerName": self.k8s.container_name,
            "k8s.hostnetwork": self.host_network,
            "k8s.podLabels": ",".join(f"{k}={v}" for k, v in self.k8s.pod_labels.items()),
            "k8s.owner.kind": self.k8s.owner_kind,
            "k8s.owner.name": self.k8s.owner_name,
            "runtime.containerName": self.runtime.container_name,
            "runtime.runtimeName": self.runtime.name,
            "runtime.containerId": self.runtime.container_id,
            "runtime.containerPid": self.runtime.pid,
            "runtime.containerImageName": self.runtime.image_name,
            "runtime.containerImageDigest": self.runtime.image_digest,
            "runtime.containerStartedAt": self.runtime.started_at,
        }


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}
