"""``--output``: one mode for all data sources, or one each (docs/reference/cli.md#output-modes)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ig_py.gadget.param_values import split_by_datasource
from ig_py.gadget.spec import DataSourceSpec

STANDARD = ("columns", "json", "jsonpretty", "none", "yaml")
"""Modes of a data source without the annotation ``cli.supported-output-modes``."""

PCAP = "pcap-ng"
"""Mode of data sources that have packets (docs/captures.md)."""

TEXT = "text"
"""How the plan calls every other mode: the text fields as they are."""

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
    common, by_name = split_by_datasource(output, "default output modes")
    mode = by_name.get(ds.name) or common or default_mode(ds, warn)
    if mode not in supported_modes(ds):
        warn(
            f'output mode "{mode}" for data source "{ds.name}" is not supported; '
            "skipping data source"
        )
        return None
    return mode if mode in STANDARD or mode == PCAP else TEXT


def known_modes(datasources: Iterable[DataSourceSpec]) -> list[str]:
    """Modes of any of them, and those of data sources without the annotation; sorted."""
    return sorted(set(STANDARD).union(*(supported_modes(ds) for ds in datasources)))
