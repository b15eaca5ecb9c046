"""The version of ig-py, in one place."""

from __future__ import annotations

VERSION = "0.1.0"
"""Semantic version, without a leading ``v``; equal to the one in pyproject.toml."""


def user_version() -> str:
    """The version as users see it: ``v0.1.0``."""
    return f"v{VERSION}"
