"""``ig-py image inspect``: what an image holds and would do, without doing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from ig_py.cli import _needed_flags, _stdout, _terminal
from ig_py.cli._flags import Flag, FlagSet, checked, help_rows, misplaced_value
from ig_py.cli._resolving import resolve_options
from ig_py.errors import UsageError

if TYPE_CHECKING:
    from ig_py.inspect.extra_info import ExtraInfo

_OCI = "operator.oci."
_OWN = (
    Flag("output", "string", "jsonpretty", "Output mode: yaml, json or jsonpretty", short="o"),
    Flag("extra-info", "string", "", "Show one piece of information, such as ebpf.flowchart"),
    Flag("jsonpath", "string", "", "Show a part of it, such as .name or [0].Name"),
    Flag("show-datasources", "bool", "false", "Show the data sources and their fields"),
    Flag("verbose", "bool", "false", "Say more: debug messages, and all of an error", short="v"),
)


@click.command(
    "inspect",
    help="Show what an image holds and would do.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(args: tuple[str, ...]) -> None:
    from ig_py.cli._run_flags import IMAGE, param_flags
    from ig_py.operators import instances

    flags = [*_OWN, *IMAGE]
    for operator in instances():
        flags += param_flags(operator.global_params())
    parsed = FlagSet(flags).parse(list(args))
    if parsed.help:
        _print_help(flags)
        return
    values = _with_defaults(flags, parsed.values)
    if values["verbose"] == "true":
        _terminal.set_verbose(True)
    for at in range(1, len(parsed.positionals)):
        if (flag := parsed.after_bool.get(at)) is not None:
            raise misplaced_value(flag, parsed.positionals[at])
    if len(parsed.positionals) != 1:
        raise UsageError(f"accepts 1 arg(s), received {len(parsed.positionals)}")
    _needed_flags.check(_needed_flags.OF_EVERY_GADGET, parsed.values, values)
    _stdout.write(inspect(parsed.positionals[0], values, flags))


def inspect(reference: str, values: Mapping[str, str], flags: list[Flag]) -> str:
    """The command's output.

    Raises:
        UsageError: Flags do not go together, or what they name does not exist.
        IgPyError: The image cannot be resolved or read.
    """
    from ig_py.gadget.param_values import split_list
    from ig_py.inspect import extra_info
    from ig_py.inspect.render import MODES, render
    from ig_py.resolver import resolve
    from ig_py.runtime.prepare import read

    mode, key, path = values["output"], values["extra-info"], values["jsonpath"]
    show = values["show-datasources"] == "true"
    if mode not in MODES:
        raise UsageError(f'invalid output mode "{mode}", valid values are: {", ".join(MODES)}')
    if key and show:
        raise UsageError(f'extra-info "{key}" and show-datasources cannot be used together')
    if path and not key and not show:
        raise UsageError(f'jsonpath "{path}" can only be used with extra info or show-datasources')
    artifact = resolve(reference, resolve_options(values, _terminal.info, build_all=True))
    params = {f.param: values[f.name] for f in flags if f.param and not f.param.startswith(_OCI)}
    gadget = read(artifact, annotate=split_list(values["annotate"]), values=params, inspected=True)
    spec = gadget.info
    for note in gadget.notes:
        _terminal.warn(note)
    if show:
        document = extra_info.datasources_document(spec)
        return _select(document, path, mode) if path else render(document, mode, sort=False)
    providers = extra_info.providers(artifact, spec)
    if key:
        if key not in providers:
            raise UsageError(f'extra info "{key}" not found')
        return _one(providers[key](), path, mode)
    return render(_all(providers), mode, sort=False)


def _all(providers: Mapping[str, Callable[[], ExtraInfo]]) -> dict[str, Any]:
    found = {key: provider() for key, provider in providers.items()}
    return {k: {"content": i.content, "contentType": i.content_type} for k, i in found.items()}


def _one(info: ExtraInfo, path: str, mode: str) -> str:
    import json

    from ig_py import yamlsafe
    from ig_py.inspect import extra_info
    from ig_py.inspect.render import render

    if info.content_type == extra_info.JSON:
        value = json.loads(info.content)
    elif info.content_type == extra_info.YAML:
        value, _ = yamlsafe.load(info.content.encode(), "extra info")
    elif path:
        raise UsageError(f'jsonpath "{path}" can only be used with JSON or YAML content')
    else:
        return info.content + "\n"
    return _select(value, path, mode) if path else render(value, mode)


def _select(value: Any, path: str, mode: str) -> str:
    from ig_py.inspect.jsonpath import evaluate
    from ig_py.inspect.render import render

    found = evaluate(value, path)
    return found + "\n" if isinstance(found, str) else render(found, mode)


def _with_defaults(flags: list[Flag], given: Mapping[str, str]) -> dict[str, str]:
    from ig_py.cli import _config

    values = {}
    for flag in flags:
        value = given.get(flag.name)
        if value is None and flag.param:
            value = _config.configured(flag.param, is_list=flag.is_list)
            value = value if value is None else checked(flag, value)
        values[flag.name] = flag.default if value is None else value
    return values


def _print_help(flags: list[Flag]) -> None:
    click.echo("Show what an image holds and would do.\n")
    click.echo("Usage:\n  ig-py image inspect IMAGE [FLAGS]...\n\nFlags:")
    rows = help_rows(flags)
    width = max(len(left) for left, _ in rows)
    for left, right in rows:
        click.echo(f"  {left:<{width}}  {right}".rstrip())
