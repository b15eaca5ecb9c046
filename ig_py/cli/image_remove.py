"""``ig-py image remove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _terminal

if TYPE_CHECKING:
    from ig_py.oci.store import Store


@click.command("remove", help="Delete IMAGE, and what only it used, from the store.")
@_image.arguments(1)
@_image.store_option
def command(args: tuple[str, ...], store: Store) -> None:
    with _image.attempt("removing gadget image"):
        reference = _image.parse_reference(args[0])
        with _image.attempt("resolving image"):
            store.remove(str(reference))
    _terminal.info(f"Successfully removed {args[0]}")
