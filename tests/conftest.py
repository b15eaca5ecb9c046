"""Feature gates, skip-to-failure, and a report that the closing summary is added up from."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import features

_REQUIRE = "IG_PY_REQUIRE"
_REPORT = "IG_PY_TEST_REPORT"


def pytest_configure(config: pytest.Config) -> None:
    # In the background of a script it is ignored, and processes inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        f"needs(*features): what the machine must be able to do: {', '.join(features.names())}",
    )
    config.addinivalue_line(
        "markers",
        "any_kernel: what it shows is the same on every kernel; guests do not repeat it",
    )
    report = os.environ.get(_REPORT)
    if report:
        config.pluginmanager.register(_Reporter(Path(report)), "ig-py-report")


def pytest_itemcollected(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        unknown = set(marker.args) - set(features.names())
        if unknown:
            raise pytest.UsageError(f"{item.nodeid}: unknown features {sorted(unknown)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        features.need(*marker.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and os.environ.get(_REQUIRE) == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, but {_REQUIRE}=1 forbids to skip: {_reason(report.longrepr)}"
    return report


def _reason(longrepr: object) -> str:
    text = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


class _Reporter:
    """Writes ``{"passed": n, "failed": n, "skipped": {test: reason}, ...}`` at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed: set[str] = set()
        self._failed: dict[str, str] = {}
        self._skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed[report.nodeid] = report.when
        elif report.skipped:
            self._skipped[report.nodeid] = _reason(report.longrepr)
        elif report.when == "call":
            self._passed.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._failed[report.nodeid] = "collect"
        elif report.skipped:
            self._skipped[report.nodeid] = _reason(report.longrepr)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._path.write_text(
            json.dumps(
                {
                    "exit": int(exitstatus),
                    "passed": len(self._passed - self._failed.keys()),
                    "failed": self._failed,
                    "skipped": self._skipped,
                }
            )
        )
