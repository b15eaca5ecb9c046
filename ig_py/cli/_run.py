"""``ig-py run``: flags in two phases (docs/reference/cli.md#flags-of-run), then one run.

click is imported for help only: it would be a tenth of the time until a gadget runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ig_py.cli import _needed_flags, _signals, _stdout, _terminal
from ig_py.cli._flags import (
    Flag,
    FlagSet,
    Parsed,
    checked,
    checked_text,
    help_rows,
    misplaced_value,
)
from ig_py.cli._logging import route_logging
from ig_py.cli._resolving import resolve_options
from ig_py.cli._run_flags import (
    FIELDS,
    OCI,
    OF_RUN,
    OUTPUT,
    config_key,
    first_phase_flags,
    output_flags,
    param_flags,
    param_values,
    static_flags,
)
from ig_py.errors import KernelError, UsageError
from ig_py.escaping import safe

if TYPE_CHECKING:
    from ig_py.runtime.prepare import Gadget
    from ig_py.runtime.state import SignalGuard, StopRequest


LOSS_EXIT = 3
"""Exit code of ``--fail-on-loss``."""


def run(args: list[str]) -> int:
    """The whole command; the exit code."""
    static = static_flags()
    first = FlagSet(first_phase_flags(static)).find_image(args)
    file = first.values.get("file")
    if file is not None:
        # The gadget's own flags are in the manifest.
        first.positionals = FlagSet(static).parse(args).positionals
        if first.positionals:
            raise UsageError(
                f'both an image ("{first.positionals[0]}") and a manifest (--file) are given',
                remedy="give one of them",
            )
    if (file is None and not first.positionals) or (file is not None and first.help):
        parsed = FlagSet(static).parse(args)
        if parsed.values.get("verbose") == "true":
            _terminal.set_verbose(True)
        _print_help(static)
        return 0
    if os.geteuid() != 0 and not first.help:
        raise KernelError(
            "running a gadget: eBPF programs can be loaded by root only", remedy="use sudo"
        )
    manifest = None
    if file is not None:
        from ig_py.cli import _manifest

        manifest = _manifest.read(file)
    early = _early_values(static, first, manifest.values if manifest else {})
    if early["verbose"] == "true" or "verbose" in first.values:
        _terminal.set_verbose(early["verbose"] == "true")
    _terminal.queue_messages()
    route_logging()
    if early["auto-mount-filesystems"] == "true":
        from ig_py.host.private_mount import mount_missing

        for why in mount_missing():
            _terminal.warn(f"--auto-mount-filesystems: {why}")

    from ig_py.containers.scout import drop_early
    from ig_py.runtime.state import SignalGuard, Stopped, StopRequest

    stop = StopRequest()
    with SignalGuard(stop, _signals.note, _signals.exit_now) as guard:
        try:
            image = manifest.image if manifest else first.positionals[0]
            values = manifest.values if manifest else None
            return _run_image(image, args, static, early, values, stop, guard, helps=first.help)
        except Stopped:
            return 0
        finally:
            drop_early()


def _early_values(static: list[Flag], first: Parsed, manifest: Mapping[str, str]) -> dict[str, str]:
    """Checked values of the static flags.

    A value is taken from the command line, else from the manifest (parameters of a run only), else
    from the configuration, else from the default.
    """
    from ig_py.cli import _config

    if path := first.values.get("config"):
        _config.use_file(path)
    values = {}
    for flag in static:
        value = first.values.get(flag.name)
        if value is None and flag.param in OF_RUN and flag.param in manifest:
            values[flag.name] = checked_text(flag, manifest[flag.param])
            continue
        if value is None and (key := config_key(flag)):
            value = _config.configured(key, is_list=flag.is_list)
        values[flag.name] = flag.default if value is None else checked(flag, value)
    _needed_flags.check(_needed_flags.OF_EVERY_GADGET, first.values, values)
    return values


def _run_image(
    image: str,
    args: list[str],
    static: list[Flag],
    early: Mapping[str, str],
    manifest: Mapping[str, str] | None,
    stop: StopRequest,
    guard: SignalGuard,
    *,
    helps: bool,
) -> int:
    """Resolve and run *image*.

    Args:
        helps: Only its flags are shown.
        early: Values of the flags that are known before the image is.
        manifest: Values of the gadget's parameters; None: flags in *args* give them.
    """
    from ig_py.containers.scout import load_early
    from ig_py.gadget.param_values import split_list
    from ig_py.host.proc import HostView
    from ig_py.output.columns import default_flag
    from ig_py.output.modes import known_modes
    from ig_py.resolver import resolve
    from ig_py.runtime.prepare import read

    artifact = resolve(image, resolve_options(early, _message, build_all=False))
    if not helps:
        # Most gadgets need it. It takes the kernel longer than what is left to do before.
        load_early(HostView.from_env())
    gadget = read(
        artifact,
        annotate=split_list(early["annotate"]),
        values=param_values([f for f in static if not f.param.startswith(OCI)], early),
    )
    dynamic = [
        *output_flags(default_flag(gadget.info.datasources), known_modes(gadget.info.datasources)),
        *param_flags(gadget.params),
    ]
    if manifest is not None:
        values = param_values(static, FlagSet(static).parse(args).values)
        values |= _of_manifest(dynamic, manifest)
    else:
        flags = FlagSet([*static, *dynamic])
        parsed = flags.parse(args)
        if parsed.help:
            _print_help(flags)
            return 0
        _check_positionals(image, parsed)
        values = param_values(flags, parsed.values)
    for note in gadget.notes:
        _terminal.warn(note)
    return _execute(gadget, values, early, stop, guard)


def _of_manifest(dynamic: list[Flag], manifest: Mapping[str, str]) -> dict[str, str]:
    """Checked values of the gadget's parameters.

    Others are ignored with a warning: a manifest must not decide which images may run.
    """
    by_param = {flag.param: flag for flag in dynamic}
    for name in manifest.keys() - by_param.keys() - OF_RUN:
        _terminal.warn(f"the manifest's parameter {name!a} is ignored: the gadget does not have it")
    return {
        name: checked_text(by_param[name], value)
        for name, value in manifest.items()
        if name in by_param
    }


def _message(text: str) -> None:
    # Messages of compilers have several lines.
    if "\n" in text.strip():
        _terminal.detail(text)
    else:
        _terminal.warn(text)


def _check_positionals(image: str, parsed: Parsed) -> None:
    if not parsed.positionals or parsed.positionals[0] != image:
        raise UsageError(
            f'cannot tell which argument is the image: "{image}" looked like it at first',
            remedy="put the image before the flags",
        )
    for at, extra in enumerate(parsed.positionals[1:], 1):
        if (flag := parsed.after_bool.get(at)) is not None:
            raise misplaced_value(flag, extra)
        raise UsageError(
            f'unexpected argument "{extra}": one image is run at a time',
            remedy=f"leave it out, or give it to a flag: --flag={extra}",
        )


def _execute(
    gadget: Gadget,
    values: Mapping[str, str],
    early: Mapping[str, str],
    stop: StopRequest,
    guard: SignalGuard,
) -> int:
    from ig_py.cli._run_output import FLUSH_SECONDS, RunOutput
    from ig_py.containers.scout import drop_early
    from ig_py.gadget.duration import parse_seconds
    from ig_py.host import pins, scratch
    from ig_py.host.latch import Latch
    from ig_py.runtime.budget import parse_budget
    from ig_py.runtime.buffers import divided, event_maps, parse_memory_limit, parse_size
    from ig_py.runtime.prepare import prepare
    from ig_py.runtime.run import Run, RunSettings
    from ig_py.runtime.supervise import supervise

    buffer_size = parse_size(early["buffer-size"]) if early["buffer-size"] else None
    queue_bytes, backlog_bytes = divided(parse_memory_limit(early["memory-limit"]))
    budget = parse_budget(early["budget"])
    prepared = prepare(gadget, values)
    if buffer_size is not None and not event_maps(prepared.spec):
        raise UsageError(
            f"--buffer-size has no effect: gadget {prepared.spec.name!a} has no buffer of events",
            remedy="leave the flag out",
        )
    output = RunOutput(prepared.spec, values.get(OUTPUT, ""), values.get(FIELDS), stop)
    running = Latch()

    def on_running() -> None:
        # Scripts and the test library of `ig` wait for this line.
        _terminal.debug("running...")
        drop_early()
        running.set()

    seconds = parse_seconds(early["timeout"])
    stop.check()
    # From here on another thread works, and this one waits: signals need not interrupt it.
    guard.interrupting = False
    stop.check()
    pins.sweep()
    scratch.sweep()
    job = Run(
        prepared,
        RunSettings(
            output.plans,
            buffer_size,
            backlog_bytes,
            budget,
            early["skip-unsupported"] == "true",
        ),
        stop,
        sink=output.start(queue_bytes),
        warn=_terminal.warn,
        on_running=on_running,
        account=lambda counters: output.account(counters, job.throttled),
    )
    counters = None
    try:
        counters = supervise(job.execute, running, stop, seconds if seconds else None)
    finally:
        output.finish(counters, job.throttled, job.unseen, job.mixed)
    output.check()
    if not _signals.received():
        _terminal.flush_messages(FLUSH_SECONDS)
    if early["fail-on-loss"] == "true" and not output.lossless:
        return LOSS_EXIT
    return 0


def _print_help(flags: FlagSet | list[Flag]) -> None:
    import click

    formatter = click.HelpFormatter(width=max(click.HelpFormatter().width, 100))
    formatter.write_usage("ig-py run", "GADGET [FLAGS]...")
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(
            "Run a gadget: an image of the store or a registry, an OCI layout directory, "
            "an image tar, or a gadget source directory."
        )
    with formatter.section("Flags"):
        rows = [*help_rows(flags), ("-h, --help", "Show this message, with an image its flags too")]
        formatter.write_dl([(left, safe(right)) for left, right in rows])
    _stdout.write(formatter.getvalue().rstrip() + "\n")
