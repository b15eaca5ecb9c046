"""The names that ``ig_py`` exports."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import ig_py


def test_every_public_name_can_be_imported() -> None:
    for name in ig_py.__all__:
        assert getattr(ig_py, name) is not None
    assert sorted({*ig_py._HOMES, "__version__"}) == sorted(ig_py.__all__)
    for name, home in ig_py._HOMES.items():
        assert getattr(ig_py, name) is getattr(import_module(home), name)


def test_no_public_name_is_a_module() -> None:
    """Importing ``ig_py.x`` would put the module where the public name ``x`` was."""
    assert not {module.name for module in pkgutil.iter_modules(ig_py.__path__)} & {*ig_py.__all__}
