"""The flags of ``run``: those known before the image is, and those the image brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ig_py.cli._flags import Flag
from ig_py.gadget.spec import ParamSpec
from ig_py.oci.trust.keys import UPSTREAM

OCI = "operator.oci."
FIELDS = "operator.cli.fields"
OUTPUT = "operator.cli.output"
OF_RUN = frozenset({OCI + "pull", OCI + "annotate", OCI + "validate-metadata"})
"""Parameters, of flags that every gadget has, that a manifest may set too."""
ROOT_FLAGS = ("auto-mount-filesystems", "verbose")
"""Flags without a parameter that the configuration can set too; their key is their name."""

GENERAL = (
    Flag(
        "timeout",
        "seconds",
        "0",
        "Stop after so many seconds, or a duration such as 1m30s (0: never)",
        short="t",
    ),
    Flag("verbose", "bool", "false", "Say more: debug messages, and all of an error", short="v"),
    Flag("config", "string", "", "Configuration file (default ~/.ig/config.yaml)"),
    Flag(
        "file",
        "string",
        "",
        "Manifest that names the gadget and its parameters: a file, - (standard input), or an "
        "address of HTTP",
        short="f",
    ),
    Flag(
        "auto-mount-filesystems",
        "bool",
        "false",
        "Mount bpf, debugfs and tracefs where they are missing, and leave them mounted",
    ),
    Flag(
        "buffer-size",
        "string",
        "",
        "Buffer of each event map (default 8M, or what the gadget declares where that is more); "
        "events that do not fit are lost and counted",
    ),
    Flag(
        "memory-limit",
        "string",
        "64M",
        "Memory for events that wait in this process, in a burst or for a slow reader (2M or more)",
    ),
    Flag(
        "budget",
        "int",
        "0",
        "Events a second that each container may send; more are counted, not sent (0: no limit)",
    ),
    Flag(
        "skip-unsupported",
        "bool",
        "false",
        "Leave out programs that this kernel cannot run, and say which",
    ),
    Flag(
        "fail-on-loss",
        "bool",
        "false",
        "Exit with code 3 when events were lost, or when loss cannot be measured",
    ),
)

IMAGE = (
    Flag(
        "verify-image",
        "bool",
        "true",
        "Run only images whose signature can be verified",
        param=OCI + "verify-image",
    ),
    Flag(
        "public-keys",
        "[]string",
        UPSTREAM,
        "Keys to verify images with: PEM texts, files, or the built-in inspektor-gadget",
        param=OCI + "public-keys",
    ),
    Flag(
        "notation-certificates",
        "[]string",
        "",
        "Certificates to trust in notation's signatures: PEM texts or files",
        param=OCI + "notation-certificates",
    ),
    Flag(
        "notation-policy-document",
        "string",
        "",
        "Notation's trust policy: JSON text or a file",
        param=OCI + "notation-policy-document",
    ),
    Flag(
        "pull",
        "string",
        "missing",
        "When to fetch the image",
        param=OCI + "pull",
        choices=("always", "missing", "never"),
    ),
    Flag(
        "disallow-pulling",
        "bool",
        "false",
        "Never fetch an image, whatever else is said",
        param=OCI + "disallow-pulling",
    ),
    Flag(
        "insecure-registries",
        "[]string",
        "",
        "Registries (host:port) to talk to over plain HTTP",
        param=OCI + "insecure-registries",
    ),
    Flag(
        "authfile",
        "string",
        "/var/lib/ig/config.json",
        "File with registry credentials",
        param=OCI + "authfile",
    ),
    Flag(
        "allowed-gadgets",
        "[]string",
        "",
        "Images that may run: name@digest, reference, or a prefix with * (all when empty)",
        param=OCI + "allowed-gadgets",
    ),
    Flag(
        "validate-metadata",
        "bool",
        "true",
        "Check gadget.yaml when a source directory is run",
        param=OCI + "validate-metadata",
    ),
    Flag(
        "annotate",
        "[]string",
        "",
        "Annotations to add: datasource:key=value or datasource.field:key=value",
        param=OCI + "annotate",
    ),
)

# The first phase needs to know which of the usual flags take a value.
_USUAL = (
    Flag("output", short="o"),
    Flag("fields"),
    Flag("filter", short="F"),
    Flag("filter-expr", short="E"),
    Flag("sort"),
    Flag("max-entries"),
    Flag("map-fetch-interval"),
    Flag("map-fetch-count"),
    Flag("containername", short="c"),
    Flag("host", "bool"),
    Flag("pid"),
    Flag("tid"),
    Flag("uid"),
    Flag("gid"),
    Flag("comm"),
)


def config_key(flag: Flag) -> str:
    """The key of *flag* in the configuration; "" when it cannot be set there."""
    return flag.param or (flag.name if flag.name in ROOT_FLAGS else "")


def static_flags() -> list[Flag]:
    """Flags that every gadget has: general, image and the operators' global ones."""
    from ig_py.operators import instances

    flags = [*GENERAL, *IMAGE]
    for operator in instances():
        flags += param_flags(operator.global_params())
    return flags


def first_phase_flags(static: Iterable[Flag]) -> list[Flag]:
    return [*static, *_USUAL]


def output_flags(default_fields: str, modes: Iterable[str]) -> list[Flag]:
    """``--fields`` and ``--output`` of a gadget with these fields and modes."""
    known = ", ".join(modes)
    return [
        Flag(
            "fields",
            "string",
            default_fields,
            "Columns to show: a list, or +name and -name to change the default",
            param=FIELDS,
        ),
        Flag(
            "output",
            "string",
            "",
            f"Output mode, for all or as datasource:mode,… ({known})",
            short="o",
            param=OUTPUT,
        ),
    ]


def param_flags(params: Iterable[ParamSpec]) -> list[Flag]:
    """One flag a parameter, and a hidden one for an alternative key."""
    flags = []
    for param in params:
        text = param.description or param.title
        if param.alternative_key:
            text = f"{text} (alias: {param.alternative_key})".strip()
        flag = Flag(
            name=param.key,
            type=param.type_hint or "string",
            default=param.default,
            help=text,
            short=param.alias if len(param.alias) == 1 else "",
            param=param.full_name,
            choices=tuple(param.possible_values),
            unsupported=param.unsupported,
        )
        flags.append(flag)
        if param.alternative_key:
            flags.append(
                Flag(param.alternative_key, flag.type, flag.default, param=flag.param, hidden=True)
            )
    return flags


def param_values(flags: Iterable[Flag], values: Mapping[str, str]) -> dict[str, str]:
    """Full parameter name → text, of the flags that were given."""
    return {f.param: values[f.name] for f in flags if f.param and f.name in values}
