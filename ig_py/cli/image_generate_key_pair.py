"""``ig-py image generate-key-pair``."""

from __future__ import annotations

import click

from ig_py.cli import _image, _terminal


@click.command(
    "generate-key-pair",
    help="Make a key pair to sign images with. The private key is encrypted with a password, "
    "asked for or taken from COSIGN_PASSWORD; cosign can use it too.",
)
@_image.arguments(0)
@click.option(
    "--output-key-prefix",
    "prefix",
    default="cosign",
    show_default=True,
    metavar="PATH",
    help="Write PATH.key and PATH.pub",
)
def command(args: tuple[str, ...], prefix: str) -> None:
    from ig_py.oci.trust.privatekeys import write_pair

    private, public = write_pair(prefix, _image.key_password(confirm=True))
    _terminal.info(f"Private key written to {private}")
    _terminal.info(f"Public key written to {public}")
