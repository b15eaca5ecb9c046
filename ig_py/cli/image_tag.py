"""``ig-py image tag``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _terminal

if TYPE_CHECKING:
    from ig_py.oci.store import Store


@click.command("tag", help="Give the image SRC of the store the name DST too.")
@_image.arguments(2)
@_image.store_option
def command(args: tuple[str, ...], store: Store) -> None:
    with _image.attempt("tagging image"):
        with _image.attempt("normalizing src image"):
            source = _image.parse_reference(args[0])
        with _image.attempt("normalizing dst image"):
            target = _image.parse_reference(args[1])
        with _image.attempt("resolving src"):
            descriptor = store.tag(str(source), str(target))
    _terminal.info(f"Successfully tagged with {target.with_digest(descriptor.digest)}")
