"""``ig-py image list``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _stdout, _terminal
from ig_py.escaping import safe
from ig_py.oci import gojson

if TYPE_CHECKING:
    from ig_py.oci.listing import Row
    from ig_py.oci.store import Store

MODES = ("columns", "json", "jsonpretty")
_DIGEST_WIDTH = 12


@click.command("list", help="List the images of the store.")
@click.argument("args", nargs=-1)
@click.option("--no-trunc", is_flag=True, help="Show whole digests and exact times")
@click.option("-o", "--output", default="columns", metavar="MODE", help="columns, json, jsonpretty")
@_image.store_option
def command(args: tuple[str, ...], no_trunc: bool, output: str, store: Store) -> None:
    from ig_py.oci.listing import rows
    from ig_py.oci.policy import default_registry

    if args:
        raise click.UsageError(f'unknown command "{args[0]}" for "ig-py image list"')
    _image.check_mode(output, MODES)
    found = rows(store, _terminal.warn, default_registry())
    if output == "columns":
        width = _terminal.width()
        lines = _plain(found) if no_trunc or width is None else _table(found, width)
        _stdout.write_lines(*lines)
        return
    items = [
        {"Repository": r.repository, "Tag": r.tag, "Digest": r.digest, "Created": r.created}
        for r in found
    ]
    _stdout.write_json(gojson.dumps(items, indent="  " if output == "jsonpretty" else "").decode())


def _plain(found: list[Row]) -> list[str]:
    lines = ["REPOSITORY TAG DIGEST CREATED"]
    lines += [f"{r.repository} {r.tag} {r.digest} {r.created}" for r in found]
    return lines


def _table(found: list[Row], width: int) -> list[str]:
    # Three columns share what the digest and three dividers leave, the first ones more.
    share, extra = divmod(max(width - _DIGEST_WIDTH - 3, 3), 3)
    widths = [share + (extra > 0), share + (extra > 1), _DIGEST_WIDTH, share]
    now = datetime.now(UTC)
    cells = [("REPOSITORY", "TAG", "DIGEST", "CREATED")]
    cells += [
        (r.repository, r.tag, r.digest.partition(":")[2][:_DIGEST_WIDTH], age(r.created, now))
        for r in found
    ]
    return [
        " ".join(_fit(safe(cell), w) for cell, w in zip(row, widths, strict=True)) for row in cells
    ]


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: max(width - 1, 0)] + "…"


def age(created: str, now: datetime) -> str:
    """``14 minutes ago``; empty for what is no RFC 3339 time."""
    try:
        then = datetime.fromisoformat(created)
    except ValueError:
        return ""
    if then.tzinfo is None:
        return ""
    return f"{_duration((now - then).total_seconds())} ago"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    if seconds < 60:
        return "1 second" if int(seconds) == 1 else f"{int(seconds)} seconds"
    minutes = int(seconds // 60)
    if minutes < 60:
        return "about a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "about an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{int(seconds // 3600) // 24 // 365} years"
