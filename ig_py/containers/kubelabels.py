"""The labels that the kubelet puts on every container of a pod."""

from __future__ import annotations

from collections.abc import Mapping

from ig_py.containers.model import KubernetesInfo

CONTAINER = "io.kubernetes.container.name"
POD = "io.kubernetes.pod.name"
NAMESPACE = "io.kubernetes.pod.namespace"
UID = "io.kubernetes.pod.uid"
OWN = (CONTAINER, POD, NAMESPACE, UID)


def info(labels: Mapping[str, str], pod_labels: Mapping[str, str] | None = None) -> KubernetesInfo:
    """A container as Kubernetes knows it; the kubelet's labels are left out of *pod_labels*."""
    return KubernetesInfo(
        namespace=labels.get(NAMESPACE, ""),
        pod_name=labels.get(POD, ""),
        container_name=labels.get(CONTAINER, ""),
        pod_uid=labels.get(UID, ""),
        pod_labels={k: v for k, v in (pod_labels or {}).items() if k not in OWN},
    )
