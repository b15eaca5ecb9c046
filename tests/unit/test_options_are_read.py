"""The value of every option that a command declares is read by the command's function."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import click

from ig_py.cli import _commands


def commands(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from commands(child, f"{path} {name}".strip())


def unread(callback: Callable[..., Any], names: set[str]) -> set[str]:
    """Those of *names* that no function of the chain of wrappers reads from a parameter of its
    own; where the innermost takes any name, only those that are its parameters."""
    left = set(names)
    while True:
        # Of the code: getsource() of a function is that of the innermost one.
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(callback.__code__))).body
        assert isinstance(function, ast.FunctionDef)
        nodes = (node for line in function.body for node in ast.walk(line))
        read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        own = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
        left -= read & own
        wrapped = getattr(callback, "__wrapped__", None)
        if wrapped is None:
            return left & own if function.args.kwarg is not None else left
        callback = wrapped


def ignores_loud(quiet: bool, loud: bool) -> bool:
    return quiet


def test_an_unread_parameter_is_found() -> None:
    assert unread(ignores_loud, {"quiet", "loud"}) == {"loud"}


def test_every_option_is_read() -> None:
    found: set[tuple[str, str]] = set()
    checked = 0
    for path, command in commands(_commands.root()):
        names = {
            str(option.name)
            for option in command.params
            if isinstance(option, click.Option) and option.expose_value
        }
        assert command.callback is not None, path
        checked += len(names)
        found |= {(path, name) for name in unread(command.callback, names)}
    assert checked > 30
    assert found == set()
