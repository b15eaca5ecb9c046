"""ig-py: build, move, run and explain eBPF gadgets packaged as OCI artifacts.

Public names are imported on first use, so that ``import ig_py`` stays cheap:

* :func:`resolve`, :class:`ResolveOptions` — a reference or path to a verified ``Artifact``
* :func:`load_gadget`, :class:`GadgetSpec` — an artifact to what it declares
* :func:`read`, :func:`prepare`, :class:`Run`, :class:`RunSettings`,
  :class:`StopRequest` — a gadget with parameters, and one run of it
* :mod:`ig_py.errors` — every error raised on purpose, below :class:`IgPyError`
"""

from __future__ import annotations

from ig_py.version import VERSION as __version__

# Not from typing: every module imported here is time until a signal is handled well.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ig_py.errors import IgPyError
    from ig_py.gadget.load import load_gadget
    from ig_py.gadget.spec import GadgetSpec
    from ig_py.oci.options import ResolveOptions
    from ig_py.resolver import resolve
    from ig_py.runtime.prepare import prepare, read
    from ig_py.runtime.run import Run, RunSettings
    from ig_py.runtime.state import StopRequest

_HOMES = {
    "GadgetSpec": "ig_py.gadget.spec",
    "IgPyError": "ig_py.errors",
    "ResolveOptions": "ig_py.oci.options",
    "Run": "ig_py.runtime.run",
    "RunSettings": "ig_py.runtime.run",
    "StopRequest": "ig_py.runtime.state",
    "load_gadget": "ig_py.gadget.load",
    "prepare": "ig_py.runtime.prepare",
    "read": "ig_py.runtime.prepare",
    "resolve": "ig_py.resolver",
}

__all__ = [
    "GadgetSpec",
    "IgPyError",
    "ResolveOptions",
    "Run",
    "RunSettings",
    "StopRequest",
    "__version__",
    "load_gadget",
    "prepare",
    "read",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
