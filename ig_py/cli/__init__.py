"""The command line: it parses flags, calls the library, and prints results and errors."""

from __future__ import annotations

import errno
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILURE = 1
EXIT_SIGPIPE = 141
FLUSH_SECONDS = 0.1
"""Longest time that a stopped reader of standard error delays the end that a signal asks for."""

_GC_THRESHOLD = 20_000
"""Starting makes many objects and hardly any garbage: the collector runs less often."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return its exit code.

    Every failure is one line ``Error: …`` on stderr and exit code 1; ``-v``
    adds the error's detail, or the traceback of a bug.
    """
    from ig_py.cli import _signals, _terminal

    gc.set_threshold(_GC_THRESHOLD)
    _open_missing_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        with _signals.EndedBySignals():
            code = _guarded(args)
            if not _signals.received():
                _terminal.end_queue(None)
    except _signals.Ended as end:
        code = end.exit_code
    if _signals.received():
        _terminal.end_queue(FLUSH_SECONDS)
    return code


def _guarded(args: list[str]) -> int:
    from ig_py.cli import _signals, _terminal

    try:
        if os.environ.get("INSPEKTOR_GADGET_VERBOSE"):
            # For the errors of the command line itself, too.
            from ig_py.cli import _config

            _terminal.set_verbose(_config.variable_set("verbose"))
        code = _dispatch(args)
        if _signals.received():
            # Its reader may have stopped, and the signal is used up.
            return code
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        raise _signals.Ended(_signals.ENDING[0]) from None
    except BrokenPipeError:
        # What is still buffered would fail again at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_SIGPIPE
    except Exception as err:
        return _report(err)


def _open_missing_streams() -> None:
    """Open a standard stream that is closed at the start, so that no other file has its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115


def _dispatch(args: list[str]) -> int:
    if args[:1] == ["run"]:
        # It parses its own flags: click is not needed.
        from ig_py.cli import _run

        return _run.run(args[1:])
    if args == ["version"]:
        # Importing click would take half of the time.
        from ig_py.version import user_version

        print(user_version())
        return 0
    import click

    from ig_py.cli._commands import root

    try:
        result = root().main(args, prog_name="ig-py", standalone_mode=False)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except SystemExit:
        # click exits like this when stdout is closed, also without standalone_mode.
        raise BrokenPipeError from None
    return result if isinstance(result, int) else 0


def _report(err: Exception) -> int:
    from ig_py.cli import _terminal
    from ig_py.errors import IgPyError

    detail = ""
    if isinstance(err, IgPyError):
        message, detail = _chain(err), err.detail
    elif isinstance(err, OSError) and err.errno in (errno.EMFILE, errno.ENFILE):
        from ig_py.host.descriptors import REMEDY

        message = f"opening {err.filename or 'a file'}: {err.strerror}: {REMEDY}"
    elif (usage := _usage_message(err)) is not None:
        message = usage
    else:
        message = f"internal error: {type(err).__name__}: {err}"
        if not _terminal.is_verbose():
            message += " (please report it with the output of -v)"
    _terminal.info(f"Error: {message}")
    if _terminal.is_verbose():
        if detail:
            _terminal.detail(detail)
        if not isinstance(err, IgPyError) and _usage_message(err) is None:
            import traceback

            _terminal.detail("".join(traceback.format_exception(err)))
    return EXIT_FAILURE


def _chain(err: Exception) -> str:
    """The error and the IgPyErrors it was raised from, outermost first."""
    from ig_py.errors import IgPyError

    parts = [str(err)]
    cause = err.__cause__
    while isinstance(cause, IgPyError):
        if str(cause) not in parts[-1]:
            parts.append(str(cause))
        cause = cause.__cause__
    return ": ".join(parts)


def _usage_message(err: Exception) -> str | None:
    """One line for what click reports; None when *err* is not click's."""
    import click

    if isinstance(err, click.NoSuchOption):
        name = err.option_name
        if name.startswith("--"):
            return f"unknown flag: {name}"
        return f"unknown shorthand flag: '{name.lstrip('-')[:1]}' in {name}"
    if isinstance(err, click.ClickException):
        return " ".join(err.format_message().split()).rstrip(".")
    return None
