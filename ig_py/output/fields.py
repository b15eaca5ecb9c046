"""``--fields``: which columns, in which order (docs/reference/cli.md#choosing-columns)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ig_py.errors import OutputError, UsageError


def split_fields(text: str) -> tuple[str | None, dict[str, str]]:
    """``[ds:]LIST[;ds2:LIST…]`` → (list of every data source or None, list by data source).

    Raises:
        UsageError: A list would replace another one.
    """
    common: str | None = None
    by_name: dict[str, str] = {}
    for part in text.split(";"):
        name, colon, names = part.partition(":")
        name = name.strip()
        if colon and name in by_name:
            raise UsageError(
                f'--fields: data source "{name}" is named twice', remedy="name it once"
            )
        if colon:
            by_name[name] = names
        elif common is None or not common.strip():
            common = part
        elif part.strip():
            raise UsageError(
                "--fields: two lists for all data sources",
                remedy="join them with a comma, or write DATASOURCE:LIST;…",
            )
    return common, by_name


def choose_fields(
    wanted: str, default: Sequence[str], positional: Sequence[str], known: Mapping[str, str]
) -> list[str]:
    """Full names of the columns that *wanted* asks for.

    *default* are the visible fields by their order, *positional* by creation;
    *known* maps lower-case names and aliases to full names. A bare name makes
    the list explicit, ``+x`` appends, ``-x`` removes. Without a bare name the
    base is *positional*, as in `ig`.

    Raises:
        OutputError: A name is no column's.
    """
    bare: list[str] = []
    added: list[str] = []
    removed: list[str] = []
    for item in (part.strip() for part in wanted.split(",")):
        if not item:
            continue
        into = added if item[0] == "+" else removed if item[0] == "-" else bare
        name = item.lstrip("+-") if into is not bare else item
        full = known.get(name.lower())
        if full is None:
            raise OutputError(f'failed to set fields: column "{name}" is invalid')
        if full not in into:
            into.append(full)
    if not bare and not added and not removed and wanted.strip():
        return list(default)
    base = bare or list(positional)
    base += [name for name in added if name not in base]
    return [name for name in base if name not in removed]
