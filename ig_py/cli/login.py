"""``ig-py login``."""

from __future__ import annotations

import sys

import click

from ig_py.cli import _terminal
from ig_py.errors import UsageError


@click.command("login", help="Check credentials for REGISTRY (host[:port]) and keep them.")
@click.argument("registries", nargs=-1)
@click.option("-u", "--username", default="", help="User name; asked for when missing")
@click.option("-p", "--password", default="", help="Password; asked for when missing")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input")
@click.option("--authfile", metavar="FILE", help="Where to keep them [/var/lib/ig/config.json]")
@click.option(
    "--tls-verify",
    is_flag=False,
    flag_value="true",
    default="true",
    metavar="[true]",
    help="Certificates are always checked: name another authority's with SSL_CERT_FILE",
)
@click.option("--plain-http", is_flag=True, help="Talk to the registry without encryption")
def command(
    registries: tuple[str, ...],
    username: str,
    password: str,
    password_stdin: bool,
    authfile: str | None,
    tls_verify: str,
    plain_http: bool,
) -> None:
    if tls_verify.lower() not in ("true", "t", "1"):
        raise UsageError(
            "--tls-verify: credentials are not shown to a server without a valid certificate",
            remedy="name the authority's certificate file with SSL_CERT_FILE",
        )
    if len(registries) != 1:
        raise UsageError("login requires exactly one registry argument")
    if password and password_stdin:
        raise UsageError("--password and --password-stdin are mutually exclusive")
    from ig_py.oci.login import check_registry, login

    check_registry(registries[0])
    if password:
        _terminal.info(
            "WARNING! A password among the arguments can be read by others: use --password-stdin."
        )
    if password_stdin:
        password = _from_stdin()
    elif sys.stdin.isatty():
        username = username or click.prompt("Username", err=True)
        password = password or click.prompt("Password", hide_input=True, err=True)
    where = login(registries[0], username, password, authfile=authfile, plain_http=plain_http)
    _terminal.info(f"Credentials kept in {where}")
    click.echo("Login Succeeded")


def _from_stdin() -> str:
    from ig_py.oci.login import MAX_PASSWORD

    raw = sys.stdin.buffer.read(MAX_PASSWORD + 1)
    if len(raw) > MAX_PASSWORD:
        raise UsageError(f"the password is longer than {MAX_PASSWORD} bytes")
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError("the password is not UTF-8 text") from None
