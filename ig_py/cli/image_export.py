"""``ig-py image export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _terminal

if TYPE_CHECKING:
    from ig_py.oci.store import Store


@click.command("export", help="Write the images SRC… of the store to the tar file DST.")
@_image.arguments(2, exact=False)
@_image.store_option
def command(args: tuple[str, ...], store: Store) -> None:
    from ig_py.oci.archive import export_images

    *sources, target = args
    with _image.attempt("exporting images"):
        export_images([_image.parse_reference(source) for source in sources], store, Path(target))
    _terminal.info(f"Successfully exported images to {target}")
