"""Resolving the image of a command, with the options that its flags give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ig_py.errors import UsageError

if TYPE_CHECKING:
    from ig_py.oci.options import ResolveOptions
    from ig_py.oci.staging import Progress


def resolve_options(
    values: Mapping[str, str], on_message: Callable[[str], None], *, build_all: bool
) -> ResolveOptions:
    """The options in *values*, which has every flag of ``_run_flags.IMAGE``."""
    from ig_py.gadget.param_values import split_list
    from ig_py.oci.options import ResolveOptions

    return ResolveOptions(
        pull=values["pull"],
        verify_image=values["verify-image"] == "true",
        insecure_registries=insecure_registries(split_list(values["insecure-registries"])),
        authfile=values["authfile"],
        allowed_gadgets=tuple(split_list(values["allowed-gadgets"])),
        disallow_pulling=values["disallow-pulling"] == "true",
        build_all=build_all,
        validate_metadata=values["validate-metadata"] == "true",
        public_keys=tuple(split_list(values["public-keys"])),
        notation_certificates=tuple(split_list(values["notation-certificates"])),
        notation_policy=values["notation-policy-document"],
        on_message=on_message,
        progress=_pulling,
    )


def insecure_registries(hosts: Iterable[str]) -> tuple[str, ...]:
    """The registries in the values of ``--insecure-registries``.

    Raises:
        UsageError: One is not ``HOST[:PORT]``: it would never be that of an image.
    """
    found = tuple(host for host in (host.strip() for host in hosts) if host)
    if found:
        from ig_py.oci.login import is_registry

        for host in found:
            if not is_registry(host):
                raise UsageError(
                    f'--insecure-registries: "{host[:200]}" is no registry',
                    remedy="write HOST or HOST:PORT, as in the name of an image",
                )
    return found


def _pulling() -> AbstractContextManager[Progress | None]:
    # Imported for downloads only.
    from ig_py.cli import _image

    return _image.progress("pulling")
