"""``ig-py image sign``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _terminal

if TYPE_CHECKING:
    from ig_py.oci.store import Store

FORMATS = ("tag", "referrer", "bundle")


@click.command(
    "sign",
    help="Sign IMAGE of the store. The signature is stored beside it, and goes along when the "
    "image is pushed or exported.",
)
@_image.arguments(1)
@click.option("--key", required=True, metavar="FILE", help="Private key: a file or env://VARIABLE")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help="tag (default) is a sha256-….sig tag, referrer the same as an OCI 1.1 referrer, "
    "bundle a sigstore bundle; may be repeated",
)
@_image.store_option
def command(args: tuple[str, ...], key: str, formats: tuple[str, ...], store: Store) -> None:
    from ig_py.oci.trust.privatekeys import load_private_key
    from ig_py.oci.trust.sign import sign

    with _image.attempt(f'signing image "{args[0]}"'):
        reference = _image.parse_reference(args[0])
        private = load_private_key(key, lambda: _image.key_password(confirm=False))
        image = sign(reference, store, private, formats or ("tag",))
    _terminal.info(f"Successfully signed {reference.with_digest(image.digest)}")
