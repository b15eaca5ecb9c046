"""``--fields``: which columns, in which order (docs/reference/cli.md#choosing-columns)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ig_py.errors import OutputError


def split_fields(text: str) -> tuple[str | None, dict[str, str]]:
    """``[ds:]LIST[;ds2:LIST…]`` → (list of every data source or None, list by data source)."""
    common: str | None = None
    by_name: dict[str, str] = {}
    for part in text.split(";"):
        name, colon, names = part.partition(":")
        if colon:
            by_name[name.strip()] = names
        else:
            common = part
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
