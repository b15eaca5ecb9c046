"""Flags of the commands that look for containers, and the parameters they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ig_py.cli import _config
from ig_py.errors import UsageError

if TYPE_CHECKING:
    from ig_py.containers.selector import Selector
    from ig_py.containers.tracker import ContainerTracker

F = TypeVar("F", bound=Callable[..., Any])


def seconds(_ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Callback of an option that is a number of seconds or a duration; 0 has no end.

    Raises:
        UsageError: It is neither, or negative.
    """
    from ig_py.gadget.duration import parse_seconds

    try:
        found = parse_seconds(value)
    except ValueError:
        found = -1
    if found < 0:
        raise UsageError(
            f'invalid argument "{value}" for "{param.opts[-1]}" flag: expected a number of '
            'seconds, or a duration such as "500ms" or "1m30s"'
        )
    return found


def runtime_options(function: F) -> F:
    """Give *function* the flags that say which engines to ask, and how."""
    from ig_py.containers.tracker import ENGINE_PARAMS
    from ig_py.operators._local_params import PREFIX, global_params

    params = {param.key: param for param in global_params()}
    for key in reversed(ENGINE_PARAMS):
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


def tracker(values: dict[str, Any], selector: Selector | None = None) -> ContainerTracker:
    """A tracker, not started, that keeps the config.json of each container.

    *values*: those of :func:`runtime_options`.

    Raises:
        UsageError: A runtime or protocol does not exist.
        ContainerError: An engine that the user named cannot be used, or the host's /proc cannot
            be seen.
    """
    from ig_py.containers.tracker import ContainerTracker, TrackerSettings
    from ig_py.host.proc import HostView

    view = HostView.from_env()
    settings = TrackerSettings.from_params(
        lambda key: values[key.replace("-", "_")], view, selector, oci_configs=True
    )
    return ContainerTracker(settings, view)
