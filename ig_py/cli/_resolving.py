"""Resolving the image of a command, with the options that its flags give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ig_py.cli._registries import insecure_registries

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


def _pulling() -> AbstractContextManager[Progress | None]:
    # Imported for downloads only.
    from ig_py.cli import _image

    return _image.progress("pulling")
