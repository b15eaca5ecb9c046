"""ig-py: build, move, run and explain eBPF gadgets packaged as OCI artifacts."""

from __future__ import annotations

from ig_py.version import VERSION as __version__

__all__ = ["__version__"]
