"""Flags of the commands that look for containers, and the parameters they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ig_py.cli import _config

if TYPE_CHECKING:
    from ig_py.containers.discovery import Discovery
    from ig_py.containers.engines.client import RuntimeConfig
    from ig_py.containers.selector import Selector

F = TypeVar("F", bound=Callable[..., Any])

_KEYS = (
    "runtimes",
    "docker-socketpath",
    "containerd-socketpath",
    "crio-socketpath",
    "podman-socketpath",
    "containerd-namespace",
    "runtime-protocol",
)


def runtime_options(function: F) -> F:
    """Give *function* the flags that say which engines to ask, and how."""
    from ig_py.operators._local_params import PREFIX, global_params

    params = {param.key: param for param in global_params()}
    for key in reversed(_KEYS):
        param = params[key]
        names = [f"--{key}", *([f"-{param.alias}"] if param.alias else [])]
        function = click.option(
            *names,
            default=lambda key=key, default=param.default: (
                _config.configured(PREFIX + key) or default
            ),
            help=param.description,
            metavar="TEXT",
        )(function)
    return function


def selector_options(function: F) -> F:
    """Give *function* the flags that choose containers."""
    options = (
        click.option("-c", "--containername", default="", help="Only containers of these names"),
        click.option("--containerimage-digest", default="", help="Only of these image digests"),
        click.option("--containerimage-id", default="", help="Only of these image ids"),
        click.option("--k8s-podname", default="", help="Only containers of these pods"),
        click.option("--k8s-namespace", default="", help="Only of pods of these namespaces"),
        click.option("--k8s-containername", default="", help="Only of these names in the pod"),
        *(
            click.option(f"--runtime-{name}", name.replace("-", "_") + "_alias", hidden=True)
            for name in ("containername", "containerimage-digest", "containerimage-id")
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def selector(values: dict[str, Any]) -> Selector:
    """The selector that the values of :func:`selector_options` make."""
    from ig_py.containers.selector import Selector

    def given(name: str) -> str:
        return values.get(f"{name}_alias") or values[name] or ""

    return Selector.parse(
        container_name=given("containername"),
        image_digest=given("containerimage_digest"),
        image_id=given("containerimage_id"),
        pod_name=given("k8s_podname"),
        namespace=given("k8s_namespace"),
        k8s_container_name=given("k8s_containername"),
    )


def configs(values: dict[str, Any]) -> tuple[list[RuntimeConfig], bool]:
    """The engines that the values of :func:`runtime_options` name, and whether containers
    without an engine are wanted. Raises UsageError, ContainerError."""
    from ig_py.containers.engines.client import SOCKET_PARAMS, engineless, runtime_configs
    from ig_py.host.proc import HostView

    view = HostView.from_env()
    view.require()
    sockets = {name: values[key.replace("-", "_")] for name, key in SOCKET_PARAMS.items()}
    found = runtime_configs(
        values["runtimes"],
        sockets,
        view,
        containerd_namespaces=values["containerd_namespace"],
        protocol=values["runtime_protocol"],
    )
    return found, engineless(values["runtimes"])


def discovery(values: dict[str, Any]) -> Discovery:
    """A discovery, not started, that keeps each container's config.json."""
    from ig_py.containers.discovery import Discovery

    engines, alone = configs(values)
    return Discovery(engines, engineless=alone, oci_configs=True)
