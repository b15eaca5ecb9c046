"""``ig-py logout``."""

from __future__ import annotations

import click

from ig_py.errors import UsageError


@click.command("logout", help="Forget the credentials kept for REGISTRY.")
@click.argument("registries", nargs=-1)
@click.option("-a", "--all", "everywhere", is_flag=True, help="Forget those for all registries")
@click.option("--authfile", metavar="FILE", help="Where they are kept [/var/lib/ig/config.json]")
def command(registries: tuple[str, ...], everywhere: bool, authfile: str | None) -> None:
    if len(registries) != (0 if everywhere else 1):
        raise UsageError("logout requires exactly one registry argument (or --all)")
    from ig_py.oci.login import logout

    logout("" if everywhere else registries[0], authfile=authfile)
    click.echo("Logout Succeeded")
