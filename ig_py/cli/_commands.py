"""The tree of commands: loaded by name, so that ``version`` and ``--help`` import nothing else."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import click

from ig_py.cli import _terminal
from ig_py.errors import UsageError
from ig_py.records import dataclass


@dataclass(frozen=True)
class Entry:
    """Where a command lives: ``module`` exports ``command: click.Command``."""

    module: str
    help: str
    aliases: tuple[str, ...] = ()


TOP = {
    "doctor": Entry("ig_py.cli.doctor", "Say what can be seen from here, and what cannot"),
    "image": Entry("ig_py.cli.image", "Build, move and explain gadget images"),
    "list-containers": Entry("ig_py.cli.list_containers", "List the containers of this host"),
    "login": Entry("ig_py.cli.login", "Keep credentials for a registry"),
    "logout": Entry("ig_py.cli.logout", "Forget the credentials for a registry"),
    "run": Entry("ig_py.cli.run", "Run a gadget"),
    "version": Entry("ig_py.cli.version", "Print the version"),
}

IMAGE = {
    "build": Entry("ig_py.cli.image_build", "Build a gadget image from its sources"),
    "export": Entry("ig_py.cli.image_export", "Write images of the store to a tar file"),
    "generate-key-pair": Entry(
        "ig_py.cli.image_generate_key_pair", "Make a key pair to sign images with"
    ),
    "import": Entry("ig_py.cli.image_import", "Add the images of a tar file to the store"),
    "inspect": Entry("ig_py.cli.image_inspect", "Show what an image holds and would do"),
    "list": Entry("ig_py.cli.image_list", "List the images of the store", ("ls",)),
    "prune": Entry("ig_py.cli.image_prune", "Delete what no tag of the store leads to"),
    "pull": Entry("ig_py.cli.image_pull", "Fetch an image from its registry"),
    "push": Entry("ig_py.cli.image_push", "Send an image to its registry"),
    "remove": Entry("ig_py.cli.image_remove", "Delete an image from the store", ("rm",)),
    "sign": Entry("ig_py.cli.image_sign", "Sign an image of the store"),
    "tag": Entry("ig_py.cli.image_tag", "Give an image of the store another name"),
    "verify": Entry("ig_py.cli.image_verify", "Check that an image is signed"),
}


def _verbose_option() -> click.Option:
    def seen(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            _terminal.set_verbose(True)

    return click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=seen,
        help="Say more: debug messages, and all of an error",
    )


def _config_option() -> click.Option:
    def seen(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value is not None:
            from ig_py.cli import _config

            _config.use_file(value)

    return click.Option(
        ["--config"],
        metavar="FILE",
        expose_value=False,
        callback=seen,
        help="Configuration file (default ~/.ig/config.yaml)",
    )


def add_global_options(command: click.Command) -> click.Command:
    """Give *command* the options that every command takes, before or after its name."""
    taken = {name for param in command.params for name in param.opts}
    for option in (_config_option(), _verbose_option()):
        if not taken & set(option.opts):
            command.params.append(option)
    if "--config" not in taken and command.callback is not None:
        command.callback = _with_settings(command.callback)
    return command


def _with_settings(callback: Callable[..., Any]) -> Callable[..., Any]:
    """*callback*, called when the settings that apply to every command are known."""

    @functools.wraps(callback)
    def called(*args: Any, **kwargs: Any) -> Any:
        from ig_py.cli import _config

        if not _terminal.is_verbose() and _config.flag_set("verbose"):
            _terminal.set_verbose(True)
        return callback(*args, **kwargs)

    return called


def plain_flags(command: click.Command, args: list[str]) -> list[str]:
    """*args* with boolean flags that have a value after ``=`` as click takes them.

    Raises:
        UsageError: The value is no boolean.
    """
    from ig_py.numbers import BOOLS_HINT, parse_bool

    flags = {
        name: param
        for param in command.params
        if isinstance(param, click.Option) and param.is_flag
        for name in param.opts
    }
    plain: list[str] = []
    for position, arg in enumerate(args):
        if arg == "--":
            return plain + args[position:]
        name, equals, value = arg.partition("=")
        param = flags.get(name) if equals else None
        if param is None:
            plain.append(arg)
            continue
        try:
            on = parse_bool(value)
        except ValueError:
            raise UsageError(
                f'invalid argument "{value}" for "{name}" flag: {BOOLS_HINT}'
            ) from None
        plain += [name] if on else param.secondary_opts
    return plain


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def __init__(self, name: str, table: Mapping[str, Entry], help: str) -> None:
        super().__init__(
            name,
            help=help,
            params=[_config_option(), _verbose_option()],
            invoke_without_command=True,
            callback=_help_if_alone,
            context_settings={"help_option_names": ["-h", "--help"]},
            subcommand_metavar="COMMAND [ARGS]...",
        )
        self.table = dict(table)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        name = next((at for at, word in enumerate(args) if not word.startswith("-")), len(args))
        if "--config" in args[:name]:
            name = min(len(args), args.index("--config") + 2)
        return super().parse_args(ctx, plain_flags(self, args[:name]) + args[name:])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for name, entry in self.table.items():
            if cmd_name == name or cmd_name in entry.aliases:
                command = importlib.import_module(entry.module).command
                assert isinstance(command, click.Command)
                command.name = name
                return add_global_options(command)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            raise click.UsageError(
                f'unknown command "{args[0]}" for "{ctx.command_path}": '
                f"run '{ctx.command_path} --help' for usage"
            )
        return command.name, command, plain_flags(command, args[1:])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (", ".join((name, *entry.aliases)), entry.help)
            for name, entry in sorted(self.table.items())
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _help_if_alone() -> None:
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def root() -> LazyGroup:
    """The whole tree, as ``ig-py``."""
    return LazyGroup("ig-py", TOP, "Build, move, run and explain eBPF gadgets.")
