"""``--output``: one mode for all data sources, or one each (docs/reference/cli.md#output-modes)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ig_py.errors import UsageError
from ig_py.gadget.param_values import check_datasources, split_by_datasource
from ig_py.gadget.spec import DataSourceSpec

STANDARD = ("columns", "json", "jsonpretty", "none", "yaml")
"""Modes of a data source without the annotation ``cli.supported-output-modes``."""

PCAP = "pcap-ng"
"""Mode of data sources that have packets (docs/captures.md)."""

TEXT = "text"
"""How the plan calls every other mode: the text fields as they are."""

WHAT = "default output modes"
"""How errors call the value of ``--output``, as in ``ig``."""
SUPPORTED_MODES = "cli.supported-output-modes"
DEFAULT_MODE = "cli.default-output-mode"


def supported_modes(ds: DataSourceSpec) -> list[str]:
    """Modes that *ds* allows, sorted."""
    listed = ds.annotations.get(SUPPORTED_MODES, "")
    return sorted(m.strip() for m in listed.split(",") if m.strip()) or list(STANDARD)


def default_mode(ds: DataSourceSpec, warn: Callable[[str], None]) -> str:
    """Its annotation, else columns where allowed, else the first allowed."""
    allowed = supported_modes(ds)
    wanted = ds.annotations.get(DEFAULT_MODE, "")
    if wanted in allowed:
        return wanted
    if wanted:
        warn(f'default output mode "{wanted}" for data source "{ds.name}" is not supported')
    return "columns" if "columns" in allowed else allowed[0]


def choose_mode(ds: DataSourceSpec, output: str, warn: Callable[[str], None]) -> str | None:
    """The mode of *ds* under ``--output`` *output*; None: skip it (a warning said why)."""
    common, by_name = split_by_datasource(output, WHAT)
    mode = by_name.get(ds.name) or common or default_mode(ds, warn)
    if mode not in supported_modes(ds):
        warn(
            f'output mode "{mode}" for data source "{ds.name}" is not supported; '
            "skipping data source"
        )
        return None
    return mode if mode in STANDARD or mode == PCAP else TEXT


def check_modes(datasources: Sequence[DataSourceSpec], output: str) -> None:
    """Check that ``--output`` *output* names data sources and modes that there are.

    A mode for all of them is one of any of them: the others are skipped then.

    Raises:
        UsageError: It does not.
    """
    common, by_name = split_by_datasource(output, WHAT)
    known = {ds.name: ds for ds in datasources}
    check_datasources(by_name, known, "--output")
    chosen = [(mode, [known[name]]) for name, mode in by_name.items()]
    if common:
        chosen.append((common, list(datasources)))
    for mode, those in chosen:
        there = sorted({m for ds in those for m in supported_modes(ds)})
        if those and mode not in there:
            of = f'data source "{those[0].name}"' if mode != common else "the gadget"
            raise UsageError(
                f'--output: {of} has no mode "{mode}"', remedy=f"give one of: {', '.join(there)}"
            )


def known_modes(datasources: Iterable[DataSourceSpec]) -> list[str]:
    """Modes of any of them, and those of data sources without the annotation; sorted."""
    return sorted(set(STANDARD).union(*(supported_modes(ds) for ds in datasources)))
