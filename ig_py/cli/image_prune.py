"""``ig-py image prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _stdout, _terminal

if TYPE_CHECKING:
    from ig_py.oci.store import Store


@click.command(
    "prune",
    help="Delete what no tag of the store leads to: images without tag, signatures without "
    "image, leftovers.",
)
@_image.arguments(0)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted")
@_image.store_option
def command(args: tuple[str, ...], dry_run: bool, store: Store) -> None:
    from ig_py.oci.prune import prune

    with _image.attempt("pruning images"):
        pruned = prune(store, dry_run=dry_run)
    _stdout.write_lines(*pruned.digests)
    _terminal.info(f"{'Would delete' if dry_run else 'Deleted'} {pruned}")
