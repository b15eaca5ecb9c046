"""The parameters of LocalManager (docs/reference/operators.md#containers)."""

from __future__ import annotations

from ig_py.gadget.spec import ParamSpec

PREFIX = "operator.LocalManager."
RUNTIMES = "docker,containerd,cri-o,podman"

FILTERING = "group:Data Filtering"
COLLECTION = "group:Data Collection"

SELECTOR_KEYS = {
    "container_name": ("containername", "runtime-containername"),
    "image_digest": ("runtime-containerimage-digest",),
    "image_id": ("runtime-containerimage-id",),
    "namespace": ("k8s-namespace",),
    "pod_name": ("k8s-podname",),
    "k8s_container_name": ("k8s-containername",),
    "labels": ("k8s-selector",),
}
"""Argument of ``Selector.parse`` → parameter keys that give it, preferred first."""

_NO_KUBERNETES = "this version does not ask the Kubernetes API server"
_LIST = "A comma list; !x leaves x out, * stands for any characters"


_ENGINES = {
    "docker": "the Docker engine",
    "containerd": "containerd",
    "cri-o": "CRI-O",
    "podman": "podman",
}


def global_params() -> list[ParamSpec]:
    """Parameters that are known before any gadget is."""
    from ig_py.containers.engines.config import SOCKET_PARAMS, default_socket

    return [
        _global("runtimes", RUNTIMES, "Container runtimes to ask, a comma list", alias="r"),
        *(
            _global(SOCKET_PARAMS[name], default_socket(name), f"Unix socket of {called}")
            for name, called in _ENGINES.items()
        ),
        _global(
            "containerd-namespace",
            "",
            "Namespaces of containerd to look into, a comma list (default all)",
        ),
        _global(
            "runtime-protocol",
            "internal",
            "How to talk to runtimes: each one's own protocol, or CRI",
            possible_values=["internal", "cri"],
        ),
        _global(
            "enrich-with-k8s-apiserver",
            "false",
            "Ask the Kubernetes API server about pods (not supported)",
            type_hint="bool",
            unsupported=_NO_KUBERNETES,
        ),
        _global(
            "identify-timeout",
            "2s",
            "How long events of a new container may wait until it is identified",
            type_hint="duration",
        ),
        _global(
            "hold-containers",
            "false",
            "Hold container runtimes until new containers are known and programs attached to them",
            type_hint="bool",
        ),
        _global(
            "hold-timeout",
            "10s",
            "How long a runtime may be held, at most 10s",
            type_hint="duration",
        ),
        _global(
            "kubeconfig",
            "",
            "Kubernetes client configuration file (not supported)",
            unsupported=_NO_KUBERNETES,
        ),
    ]


def instance_params() -> list[ParamSpec]:
    """Parameters of a gadget whose events have containers, in the order of the help."""
    return [
        _instance("k8s-podname", f"Only these pods. {_LIST}", "k8s:pod"),
        _instance("k8s-namespace", f"Only pods of these namespaces. {_LIST}", "k8s:namespace"),
        _instance("k8s-selector", "Only pods with these labels: key=value,…", "k8s:labels"),
        _instance(
            "k8s-containername",
            f"Only containers with these names in the pod's definition. {_LIST}",
            "k8s:container",
        ),
        ParamSpec(
            key="containername",
            prefix=PREFIX,
            alias="c",
            alternative_key="runtime-containername",
            description="Only containers that the runtime knows by these names, or by the first"
            f" digits of their ids. {_LIST}",
            tags=[FILTERING],
            value_hint="local:container",
        ),
        _instance(
            "runtime-containerimage-digest",
            f"Only containers of images with these digests (12 digits are enough). {_LIST}",
            "local:image-digest",
        ),
        _instance(
            "runtime-containerimage-id",
            f"Only containers of images with these ids (12 digits are enough). {_LIST}",
            "local:image-id",
        ),
        ParamSpec(
            key="host",
            prefix=PREFIX,
            default="false",
            type_hint="bool",
            description="Events of the whole host, not of containers only",
            tags=[COLLECTION],
        ),
    ]


def _global(
    key: str,
    default: str,
    description: str,
    *,
    alias: str = "",
    type_hint: str = "",
    possible_values: list[str] | None = None,
    unsupported: str = "",
) -> ParamSpec:
    return ParamSpec(
        key=key,
        prefix=PREFIX,
        default=default,
        description=description,
        alias=alias,
        type_hint=type_hint,
        possible_values=possible_values or [],
        unsupported=unsupported,
    )


def _instance(key: str, description: str, value_hint: str) -> ParamSpec:
    return ParamSpec(
        key=key,
        prefix=PREFIX,
        description=description,
        tags=[FILTERING],
        value_hint=value_hint,
    )
