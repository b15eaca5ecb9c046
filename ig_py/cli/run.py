"""``ig-py run`` in the tree of commands; :mod:`ig_py.cli._run` does the work."""

from __future__ import annotations

import click

from ig_py.cli import _run


class _RawCommand(click.Command):
    """Takes its arguments unparsed: its flags are known only after the image is read."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["args"] = list(args)
        return []


def _callback(args: list[str]) -> int:
    return _run.run(args)


command = _RawCommand("run", callback=_callback, help="Run a gadget.")
