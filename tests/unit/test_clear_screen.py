"""Which data source may clear the screen before it is shown."""

from __future__ import annotations

import sys

import pytest

from ig_py.cli._log_format import log_line
from ig_py.cli._run_output import CLEAR, CLEAR_SCREEN, RunOutput
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, FieldSpec, GadgetSpec, Kind
from ig_py.runtime.state import StopRequest


def clearing(
    monkeypatch: pytest.MonkeyPatch, *names: str, terminal: bool = True, output: str = ""
) -> set[str]:
    """The data sources of *names* that clear the screen; all of them ask for it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    sources = [
        DataSourceSpec(
            name,
            DataSourceType.ARRAY,
            fields=[FieldSpec("n", "n", 0, Kind.UINT32)],
            annotations={CLEAR: "true"},
        )
        for name in names
    ]
    shown = RunOutput(GadgetSpec("g", {}, datasources=sources), output, None, StopRequest())
    code = CLEAR_SCREEN.decode()
    first = {name for name, line in shown._headers if line.startswith(CLEAR_SCREEN)}
    each = {name for name, plan in shown.plans.items() if plan.header.startswith(code)}
    assert first == each
    return each


def test_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert clearing(monkeypatch, "a") == {"a"}
    assert clearing(monkeypatch, "a", terminal=False) == set()
    assert clearing(monkeypatch, "a", output="json") == set()
    monkeypatch.setenv("TERM", "dumb")
    assert clearing(monkeypatch, "a") == set()
    assert log_line("warning", "m", tty=True).startswith("WARN[0")


def test_never_what_another_data_source_has_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert clearing(monkeypatch, "a", "b") == set()
    assert clearing(monkeypatch, "a", "b", output="a:columns,b:none") == {"a"}
    assert clearing(monkeypatch, "a", "b", output="a:columns,b:json") == set()
