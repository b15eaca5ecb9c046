"""``ig-py image push``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _terminal

if TYPE_CHECKING:
    from ig_py.oci.store import Store


@click.command("push", help="Copy IMAGE from the store to its registry.")
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
    from ig_py.oci.transfer import push

    _terminal.info(f"Pushing {args[0]}...")
    with _image.attempt("pushing gadget"):
        reference = _image.parse_reference(args[0])
        options = RegistryOptions(authfile, insecure_registries)
        with _image.progress("pushing") as bar:
            root = push(reference, store, options, bar)
    _terminal.info(f"Successfully pushed {reference.with_digest(root.digest)}")
