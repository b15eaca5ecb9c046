"""``ig-py image``: the group; each command below it is a file of its own."""

from __future__ import annotations

from ig_py.cli._commands import IMAGE, LazyGroup

command = LazyGroup("image", IMAGE, "Build, move and explain gadget images.")
