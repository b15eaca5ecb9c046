"""The running kernel's types in an image's btfgen layer, for kernels without BTF.

Facts: docs/reference/image-format.md. The layer is a ``.tar.gz`` whose members are
``ID/VERSION_ID/MACHINE/RELEASE.btf``: ``ID`` and ``VERSION_ID`` of os-release(5), the others of
uname(2). Each has those of a kernel's types that the image's object uses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ig_py.host.proc import HostView
from ig_py.host.safe_open import FileRefused, Links, read_beneath

MAX_OS_RELEASE = 64 << 10
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_QUOTED = re.compile(r"""(["']?)([A-Za-z0-9._~-]*)\1""")


class ImageBtf:
    """Looks for the running kernel in *layers*, the content of an image's btfgen layers.

    Args:
        name: The gadget's, for errors.
    """

    def __init__(self, layers: Sequence[bytes], view: HostView, name: str) -> None:
        self._layers = layers
        self._view = view
        self._found: list[bytes | None] = []
        self._what = f"running gadget {name}: reading the image's BTF layer"

    def find(self) -> bytes | None:
        """The types of the running kernel; None when no layer has them. Layers are read once.

        Raises:
            ObjectError: A layer is no ``.tar.gz``.
            LimitError: A layer, or the types, are too large.
        """
        if not self._found:
            self._found.append(self._search())
        return self._found[0]

    def _search(self) -> bytes | None:
        member = self.member() if self._layers else ""
        if not member:
            return None
        from ig_py.runtime.btf_archive import Budget, search

        budget = Budget()
        found = (search(layer, member, self._what, budget) for layer in self._layers)
        return next((types for types in found if types is not None), None)

    def why_not(self) -> str:
        """Why there is nothing to find, in words that go behind "this kernel has no BTF"."""
        if not self._layers:
            return "the image brings no types of kernels"
        if not (member := self.member()):
            return "os-release does not tell this distribution's name and version"
        return f"the image brings no {member}"

    def member(self) -> str:
        """The running kernel's path in the archive; "" when the distribution is not known."""
        distribution = self._distribution()
        if distribution is None:
            return ""
        kernel = os.uname()
        return "/".join((*distribution, kernel.machine, f"{kernel.release}.btf"))

    def _distribution(self) -> tuple[str, str] | None:
        for path in _OS_RELEASE:
            try:
                content = read_beneath(
                    self._view.root,
                    path,
                    most=MAX_OS_RELEASE,
                    links=Links.IN_ROOT,
                    one_mount=False,
                )
            except FileRefused:
                continue
            if content is not None:
                return parse_os_release(content.decode("utf-8", "replace"))
        return None


def parse_os_release(text: str) -> tuple[str, str] | None:
    """``ID`` and ``VERSION_ID``; None when one is missing, or is no part of a path."""
    values = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and (match := _QUOTED.fullmatch(value.strip())):
            values[key] = match[2]
    name, version = values.get("ID", ""), values.get("VERSION_ID", "")
    if name.strip(".") and version.strip("."):
        return name, version
    return None
