"""``ig-py image verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _needed_flags, _stdout, _terminal

if TYPE_CHECKING:
    from ig_py.oci.store import Store


@click.command("verify", help="Check that IMAGE, of the store or at a path, is signed.")
@_image.arguments(1)
@click.option(
    "--public-keys",
    metavar="PEM,…",
    help="Keys: PEM texts, files, or the built-in inspektor-gadget (default)",
)
@click.option("--notation-certificates", metavar="PEM,…", help="Certificates: PEM texts or files")
@click.option("--notation-policy-document", metavar="JSON", help="Trust policy: text or file")
@_image.registry_options
@_image.store_option
def command(
    args: tuple[str, ...],
    public_keys: str | None,
    notation_certificates: str | None,
    notation_policy_document: str | None,
    authfile: str | None,
    insecure_registries: tuple[str, ...],
    store: Store,
) -> None:
    from ig_py.cli._config import configured
    from ig_py.gadget.param_values import split_list
    from ig_py.oci.options import ResolveOptions
    from ig_py.oci.trust.keys import UPSTREAM
    from ig_py.resolver import verify

    def setting(flag: str | None, key: str, default: str, *, is_list: bool = True) -> str:
        value = flag
        if value is None:
            value = configured(f"operator.oci.{key}", is_list=is_list)
        return default if value is None else value

    certificates = setting(notation_certificates, "notation-certificates", "")
    policy = setting(notation_policy_document, "notation-policy-document", "", is_list=False)
    _needed_flags.check_command(
        _needed_flags.NOTATION,
        {"notation-certificates": certificates, "notation-policy-document": policy},
    )
    # With certificates and without keys, the default key is not used.
    keys = setting(public_keys, "public-keys", "" if certificates else UPSTREAM)
    options = ResolveOptions(
        public_keys=_listed(keys) if keys or public_keys is None else (keys,),
        notation_certificates=tuple(split_list(certificates)),
        notation_policy=policy,
        authfile=authfile,
        insecure_registries=insecure_registries,
        store=store,
        on_message=_terminal.info,
    )
    _stdout.write_lines(f"Verifying image: {args[0]}")
    verdict = verify(args[0], options)
    _stdout.write_lines("Image verified successfully!")
    _terminal.info(f"Signed by {verdict.by} ({verdict.format})")


def _listed(text: str) -> tuple[str, ...]:
    from ig_py.gadget.param_values import split_list

    return tuple(split_list(text))
