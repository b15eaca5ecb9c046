"""``ig-py version``."""

from __future__ import annotations

import platform

import click

from ig_py.cli import _terminal
from ig_py.version import VERSION, user_version


@click.command("version", help="Print the version.")
def command() -> None:
    _terminal.debug(f"ig-py/{VERSION} ({platform.system().lower()}/{platform.machine()})")
    click.echo(user_version())
