"""Feature gates, skip-to-failure, and a report that the closing summary is added up from."""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from support import features

_REQUIRE = "IG_PY_REQUIRE"
_REPORT = "IG_PY_TEST_REPORT"
_OF_THE_USER = ("HOME", "XDG_CACHE_HOME", "IG_PY_STORE", "DOCKER_CONFIG")


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
    config.add_cleanup(_own_home())
    report = os.environ.get(_REPORT)
    if report:
        config.pluginmanager.register(_Reporter(Path(report)), "ig-py-report")


def _own_home() -> Callable[[], None]:
    """Keep tests away from the user's store, settings and credentials; only the cache of generated
    headers stays the user's. Returns a function that restores the environment."""
    before = {name: os.environ.get(name) for name in _OF_THE_USER}
    directory = tempfile.TemporaryDirectory(prefix="ig-py-home-")
    os.environ["XDG_CACHE_HOME"] = before["XDG_CACHE_HOME"] or str(Path.home() / ".cache")
    os.environ["HOME"] = directory.name
    os.environ["IG_PY_STORE"] = f"{directory.name}/store"
    os.environ.pop("DOCKER_CONFIG", None)

    def restore() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        directory.cleanup()

    return restore


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command routes what ig_py logs to stderr for the rest of the process."""
    logger = logging.getLogger("ig_py")
    before = list(logger.handlers), logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


def pytest_itemcollected(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        unknown = set(marker.args) - set(features.names())
        if unknown:
            raise pytest.UsageError(f"{item.nodeid}: unknown features {sorted(unknown)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        features.need(*marker.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
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
