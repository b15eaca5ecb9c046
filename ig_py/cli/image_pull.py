"""``ig-py image pull``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _terminal

if TYPE_CHECKING:
    from ig_py.oci.store import Store


@click.command("pull", help="Copy IMAGE, for every architecture, from its registry to the store.")
@_image.arguments(1)
@_image.registry_options
@_image.store_option
def command(
    args: tuple[str, ...],
    authfile: str | None,
    insecure_registries: tuple[str, ...],
    store: Store,
) -> None:
    from ig_py.oci.registry import RegistryOptions
    from ig_py.oci.transfer import pull

    _terminal.info(f"Pulling {args[0]}...")
    with _image.attempt("pulling gadget"), _image.attempt(f'pulling image "{args[0]}"'):
        reference = _image.parse_reference(args[0])
        options = RegistryOptions(authfile, insecure_registries)
        with _image.progress("pulling") as bar:
            root = pull(reference, store, options, bar, _terminal.warn)
    _terminal.info(f"Successfully pulled {reference.with_digest(root.digest)}")
