"""What the image commands share: options, argument counts, output modes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ig_py.errors import IgPyError, UsageError
from ig_py.escaping import safe

if TYPE_CHECKING:
    from ig_py.oci.reference import Reference
    from ig_py.oci.staging import Progress

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def arguments(minimum: int, *, exact: bool = True) -> Decorator:
    """Positional arguments as ``args``; the error for a wrong count is worded as in ``ig``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def checked(args: tuple[str, ...], **options: Any) -> Any:
            if exact and len(args) != minimum:
                raise UsageError(f"accepts {minimum} arg(s), received {len(args)}")
            if len(args) < minimum:
                raise UsageError(f"requires at least {minimum} arg(s), only received {len(args)}")
            return function(args, **options)

        return click.argument("args", nargs=-1)(checked)

    return decorate


def parse_reference(text: str) -> Reference:
    """Parse what the user typed; this machine's default registry completes a short name.

    Raises:
        InvalidReference: *text* is no image reference.
        UsageError: A policy file is not valid.
    """
    from ig_py.oci.policy import default_registry
    from ig_py.oci.reference import normalize

    return normalize(text, default_registry())


def store_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--oci-store``: the store to use, passed on as ``store``."""

    @functools.wraps(function)
    def opened(*args: Any, oci_store: str | None, **options: Any) -> Any:
        from ig_py.oci.store import Store

        if oci_store == "":
            raise click.UsageError("--oci-store: no directory is named")
        return function(*args, store=Store.open(oci_store), **options)

    return click.option(
        "--oci-store", metavar="DIR", help="Use the store in this directory (also IG_PY_STORE)"
    )(opened)


def registry_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--authfile`` and ``--insecure-registries``, the latter a tuple of ``host:port``."""

    @functools.wraps(function)
    def parsed(*args: Any, insecure_registries: tuple[str, ...], **options: Any) -> Any:
        from ig_py.cli import _registries

        hosts = _registries.insecure_registries(
            host for item in insecure_registries for host in item.split(",")
        )
        return function(*args, insecure_registries=hosts, **options)

    insecure = click.option(
        "--insecure-registries",
        multiple=True,
        metavar="HOST[:PORT],…",
        help="Registries to talk to over plain HTTP, without credentials",
    )
    authfile = click.option(
        "--authfile", metavar="FILE", help="Credentials, in docker's config.json format"
    )
    return authfile(insecure(parsed))


def check_mode(mode: str, modes: Sequence[str]) -> None:
    """Check that *mode* is one of *modes*.

    Raises:
        UsageError: It is not.
    """
    if mode not in modes:
        raise UsageError(f'invalid output mode "{mode}", valid values are: {", ".join(modes)}')


def key_password(*, confirm: bool) -> str:
    """A private key's password: ``$COSIGN_PASSWORD``, or what the user types."""
    import os

    known = os.environ.get("COSIGN_PASSWORD")
    if known is not None:
        return known
    if not sys.stdin.isatty():
        raise UsageError("the private key's password is not known", remedy="set COSIGN_PASSWORD")
    password: str = click.prompt(
        "Password of the private key",
        default="",
        show_default=False,
        hide_input=True,
        confirmation_prompt=confirm,
        err=True,
    )
    return password


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Say *what* was attempted in front of an error's message."""
    try:
        yield
    except IgPyError as err:
        raise type(err)(
            f"{what}: {err.message}", remedy=err.remedy, detail=err.detail
        ) from err.__cause__


@contextmanager
def progress(label: str) -> Iterator[Progress | None]:
    """A progress bar on stderr when that is a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(label)
    try:
        yield bar
    finally:
        bar.close()


class _Bar:
    """Bytes transferred, of the bytes that are to be transferred as far as known."""

    def __init__(self, label: str) -> None:
        self._bar = click.progressbar(length=1, label=safe(label), file=sys.stderr, show_pos=False)
        self._total = 0
        self._moved = 0
        self._drawn = False

    def expect(self, size: int) -> None:
        self._total += size
        self._bar.length = max(self._total, 1)

    def advance(self, size: int) -> None:
        self._moved += size
        # A terminal that is stopped (Ctrl-S) must not stop a download: it is shown later.
        if _has_room(sys.stderr.fileno()):
            if not self._drawn:
                self._drawn = True
                self._bar.__enter__()
            self._bar.update(self._moved)
            self._moved = 0

    def close(self) -> None:
        if self._drawn and _has_room(sys.stderr.fileno()):
            self._bar.__exit__(None, None, None)


def _has_room(fd: int) -> bool:
    """Can a little be written to *fd* without waiting?"""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))
