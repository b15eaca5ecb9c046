"""``ig-py image import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _stdout
from ig_py.oci import gojson

if TYPE_CHECKING:
    from ig_py.oci.store import Store

MODES = ("json", "jsonpretty")


@click.command("import", help="Add the images of the tar file SRC to the store.")
@_image.arguments(1)
@click.option("-o", "--output", default="", metavar="MODE", help="json or jsonpretty")
@_image.store_option
def command(args: tuple[str, ...], output: str, store: Store) -> None:
    from ig_py.oci.archive import import_images
    from ig_py.oci.policy import default_registry

    if output:
        _image.check_mode(output, MODES)
    with _image.attempt("importing images"), _image.attempt("loading src bundle"):
        names = import_images(Path(args[0]), store, default_registry())
    if output:
        indent = "  " if output == "jsonpretty" else ""
        _stdout.write_json(gojson.dumps(names, indent=indent).decode() + "\n")
        return
    _stdout.write_lines("Successfully imported images:", *(f"  {name}" for name in names))
