"""The architecture of this machine."""

from __future__ import annotations

import os

_IMAGE_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
"""uname(2)'s names → GOARCH, which image indexes use (OCI image spec, image-index.md)."""


def host_architecture() -> str:
    """This machine as image indexes name it: ``amd64``, ``arm64``, …"""
    machine = os.uname().machine
    return _IMAGE_NAMES.get(machine, machine)
