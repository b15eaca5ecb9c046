"""Flags that have an effect only together with another one.

`ig` ignores such a flag when it stands alone. Here what a user has typed takes effect or is
refused. Values of the configuration are never refused here: they stand for many commands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from ig_py.containers.engines.config import SOCKET_PARAMS, UNMANAGED
from ig_py.errors import UsageError
from ig_py.records import dataclass

if TYPE_CHECKING:
    import click

Values = Mapping[str, str]
"""Flag name → its value: typed, configured or the default."""


@dataclass(frozen=True)
class Need:
    """*flag* has an effect only where *is_met*; *remedy* says how."""

    flag: str
    is_met: Callable[[Values], bool]
    because: str
    remedy: str


def _is_on(name: str) -> Callable[[Values], bool]:
    return lambda values: values[name] == "true"


def _is_given(name: str) -> Callable[[Values], bool]:
    return lambda values: bool(values[name])


def _asks(engine: str) -> Callable[[Values], bool]:
    def is_met(values: Values) -> bool:
        names = values["runtimes"].split(",")
        # A wrong name has an error of its own, which says more.
        return engine in names or not {*names} <= {*SOCKET_PARAMS, UNMANAGED, ""}

    return is_met


def _uses_docker_socket(values: Values) -> bool:
    return values["runtime-protocol"] != "cri"


ENGINES = (
    *(
        Need(
            flag,
            _asks(engine),
            f"--runtimes leaves out {engine}",
            f"add {engine} to --runtimes",
        )
        for engine, flag in SOCKET_PARAMS.items()
    ),
    Need(
        "containerd-namespace",
        _asks("containerd"),
        "--runtimes leaves out containerd",
        "add containerd to --runtimes",
    ),
    Need(
        "docker-socketpath",
        _uses_docker_socket,
        "with --runtime-protocol=cri Docker is asked through cri-dockerd",
        "leave one of them out",
    ),
)
HOLD = (
    Need(
        "hold-timeout",
        _is_on("hold-containers"),
        "runtimes are not held",
        "add --hold-containers",
    ),
)
NOTATION = (
    Need(
        "notation-certificates",
        _is_given("notation-policy-document"),
        "notation's signatures are not checked without a trust policy",
        "add --notation-policy-document",
    ),
    Need(
        "notation-policy-document",
        _is_given("notation-certificates"),
        "notation's signatures are not checked without certificates",
        "add --notation-certificates",
    ),
)
_VERIFIED = tuple(
    Need(flag, _is_on("verify-image"), "--verify-image is false", "leave one of them out")
    for flag in ("public-keys", "notation-certificates", "notation-policy-document")
)
_PULLED = (
    Need(
        "pull",
        lambda values: values["pull"] == "never" or values["disallow-pulling"] != "true",
        "--disallow-pulling is set",
        "leave one of them out",
    ),
)
OF_EVERY_GADGET = (*ENGINES, *HOLD, *_VERIFIED, *NOTATION, *_PULLED)
"""Those of ``run`` and ``image inspect``."""


def check(needs: Collection[Need], typed: Collection[str], values: Values) -> None:
    """Refuse flags that have no effect.

    Args:
        typed: Names of the flags that the command line has.
        values: Every flag that *needs* speaks of.

    Raises:
        UsageError: What a typed flag needs is missing.
    """
    for need in needs:
        if need.flag in typed and not need.is_met(values):
            raise UsageError(f"--{need.flag} has no effect: {need.because}", remedy=need.remedy)


def typed(context: click.Context) -> set[str]:
    """Names of the options, as flags have them, that the command line has."""
    from click.core import ParameterSource

    return {
        name.replace("_", "-")
        for name in (option.name for option in context.command.params)
        if name and context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    }


def check_command(needs: Collection[Need], values: Mapping[str, object]) -> None:
    """:func:`check` for the click command that runs; *values* are those of its function.

    Raises:
        UsageError: What a typed flag needs is missing.
    """
    import click

    texts = {
        name.replace("_", "-"): str(value).lower() if isinstance(value, bool) else str(value or "")
        for name, value in values.items()
    }
    check(needs, typed(click.get_current_context()), texts)
