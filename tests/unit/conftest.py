"""The unit layer works in memory where it can: its stores sync each blob to the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_TEMPORARY = "PYTEST_DEBUG_TEMPROOT"
_ENOUGH = 512 << 20


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get(_TEMPORARY) or os.environ.get("TMPDIR") or not os.access(_MEMORY, os.W_OK):
        return
    if shutil.disk_usage(_MEMORY).free >= _ENOUGH:
        os.environ[_TEMPORARY] = str(_MEMORY)
