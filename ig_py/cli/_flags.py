"""Flags known only at run time: parsing as pflag does (docs/reference/cli.md#flags-of-run).

click wants its options before it parses; the flags of ``run`` depend on the
image, which is itself an argument. GNU long flags, ``-x``, ``-xVAL``,
``-x=VAL``, ``--flag=VAL``, ``--flag VAL``; boolean flags take a value only
after ``=``; ``--`` ends the flags. The last of repeated flags wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ig_py.errors import UsageError
from ig_py.records import dataclass, field

MAX_VALUE_FILE = 1 << 20
"""Largest file, in bytes, that an ``@file`` value may name."""

_INTEGERS = {
    "int": (-(1 << 63), (1 << 63) - 1),
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint": (0, (1 << 64) - 1),
    "uint8": (0, (1 << 8) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}
# Compiled when first used: most commands never do.
_INTEGER = r"[+-]?(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})"
_HELP_TYPES = {"int64": "int", "uint64": "uint", "float64": "float", "": "string"}


@dataclass(frozen=True)
class Flag:
    """One flag. *param* is the full parameter name that it sets ("" for none).

    *type* is ``bool``, ``string``, ``duration``, ``[]string``, ``float32/64``
    or an integer type; unknown types are strings.
    """

    name: str
    type: str = "string"
    default: str = ""
    help: str = ""
    short: str = ""
    param: str = ""
    choices: tuple[str, ...] = ()
    hidden: bool = False

    @property
    def is_bool(self) -> bool:
        return self.type == "bool"

    @property
    def shown(self) -> str:
        """The flag as error messages name it: ``-t, --timeout``."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"

    @property
    def type_name(self) -> str:
        """The type as help shows it; empty for booleans."""
        return "" if self.is_bool else _HELP_TYPES.get(self.type, self.type)


@dataclass
class Parsed:
    """*values*: flag name → text, only of flags that were given."""

    values: dict[str, str] = field(default_factory=dict)
    positionals: list[str] = field(default_factory=list)
    help: bool = False


class FlagSet:
    """Flags by name and shorthand."""

    def __init__(self, flags: Iterable[Flag] = ()) -> None:
        self._by_name: dict[str, Flag] = {}
        self._by_short: dict[str, Flag] = {}
        for flag in flags:
            self.add(flag)

    def add(self, flag: Flag) -> bool:
        """False when the name is taken; a taken shorthand is left to its owner."""
        if flag.name in self._by_name:
            return False
        if flag.short in self._by_short or flag.short in _RESERVED_SHORT:
            flag = Flag(**{**flag.__dict__, "short": ""})
        self._by_name[flag.name] = flag
        if flag.short:
            self._by_short[flag.short] = flag
        return True

    def __iter__(self) -> Iterator[Flag]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Flag | None:
        return self._by_name.get(name)

    def find_image(self, args: Sequence[str]) -> Parsed:
        """First phase: flags not known yet are tolerated.

        A long flag not known takes the next word, as in ``ig``; when that leaves no positional,
        they are read as booleans instead.
        """
        parsed = self._parse(args, strict=False, swallow=True)
        if not parsed.positionals:
            retry = self._parse(args, strict=False, swallow=False)
            if retry.positionals:
                return retry
        return parsed

    def parse(self, args: Sequence[str]) -> Parsed:
        """Second phase: every flag must be known.

        Raises:
            UsageError: A flag is not known, or its value does not fit.
        """
        return self._parse(args, strict=True, swallow=False)

    def _parse(self, args: Sequence[str], *, strict: bool, swallow: bool) -> Parsed:
        out = Parsed()
        rest = list(args)
        while rest:
            word = rest.pop(0)
            if word == "--":
                out.positionals += rest
                break
            if word.startswith("--"):
                self._long(word, rest, out, strict, swallow)
            elif word.startswith("-") and word != "-":
                self._shorts(word, rest, out, strict)
            else:
                out.positionals.append(word)
        return out

    def _long(self, word: str, rest: list[str], out: Parsed, strict: bool, swallow: bool) -> None:
        name, given, value = word[2:].partition("=")
        flag = self._by_name.get(name)
        if flag is not None:
            self._take(flag, given, value, rest, out, strict)
        elif name == "help" and not given:
            out.help = True
        elif not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {word}")
        elif strict:
            raise UsageError(f"unknown flag: --{name}")
        elif swallow and not given and rest and not rest[0].startswith("-"):
            rest.pop(0)

    def _shorts(self, word: str, rest: list[str], out: Parsed, strict: bool) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self._by_short.get(letter)
            if flag is None:
                if letter == "h":
                    out.help = True
                    continue
                if strict:
                    raise UsageError(f"unknown shorthand flag: {letter!r} in {word}")
                return
            if letters.startswith("="):
                self._take(flag, "=", letters[1:], rest, out, strict)
                return
            if not flag.is_bool and letters:
                self._take(flag, "=", letters, rest, out, strict)
                return
            self._take(flag, "", "", rest, out, strict)

    def _take(
        self, flag: Flag, given: str, value: str, rest: list[str], out: Parsed, strict: bool
    ) -> None:
        if not given:
            if flag.is_bool:
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise UsageError(f"flag needs an argument: {flag.shown}")
        out.values[flag.name] = checked(flag, value) if strict else value


_RESERVED_SHORT = frozenset({"h"})


def checked(flag: Flag, value: str) -> str:
    """*value* as the parameter will see it; ``@file`` is replaced by the file's content.

    Raises:
        UsageError: It does not fit the type; the error names the flag.
    """
    return checked_text(flag, _from_file(flag, value))


def checked_text(flag: Flag, value: str) -> str:
    """As :func:`checked`, for a value from a manifest: ``@file`` is not replaced."""
    why = why_invalid(flag.type, value, flag.choices)
    if why:
        raise UsageError(f'invalid argument "{value}" for "{flag.shown}" flag: {why}')
    return value.lower() if flag.is_bool else value


def _from_file(flag: Flag, value: str) -> str:
    if not value.startswith("@") or not flag.param:
        return value
    path = value[1:]
    wrong = f'invalid argument "{value}" for "{flag.shown}" flag: reading file "{path}"'
    from ig_py.host.safe_open import FileRefused, read_argument

    try:
        return read_argument(path, most=MAX_VALUE_FILE).decode()
    except FileRefused as err:
        raise UsageError(f"{wrong}: {err.reason}") from None
    except UnicodeDecodeError as err:
        raise UsageError(f"{wrong}: not UTF-8 text") from err


def why_invalid(type_name: str, value: str, choices: Sequence[str] = ()) -> str:
    """Why *value* is no *type_name*; empty when it is one."""
    if type_name == "bool":
        return "" if value.lower() in ("true", "false") else "expected 'true' or 'false'"
    if type_name in _INTEGERS:
        return _why_no_integer(type_name, value)
    if type_name in ("float32", "float64"):
        try:
            float(value)
        except ValueError:
            return "expected a number"
    if type_name == "duration":
        from ig_py.gadget.duration import parse_duration

        try:
            parse_duration(value)
        except ValueError:
            return 'expected a duration such as "500ms" or "1m30s"'
    if choices and value not in choices:
        return f"valid values are: {', '.join(choices)}"
    return ""


def _why_no_integer(type_name: str, value: str) -> str:
    low, high = _INTEGERS[type_name]
    # int() takes digits of other scripts, spaces and underscores; flags do not.
    if not re.fullmatch(_INTEGER, value):
        return "expected a whole number"
    number = int(value, 16 if "x" in value.lower() else 10)
    if not low <= number <= high:
        return f"not between {low} and {high}"
    return ""


def help_rows(flags: Iterable[Flag]) -> list[tuple[str, str]]:
    """(flag, description) of every flag that help shows, by name."""
    rows = []
    for flag in sorted(flags, key=lambda f: f.name):
        if flag.hidden:
            continue
        left = f"-{flag.short}, --{flag.name}" if flag.short else f"    --{flag.name}"
        if flag.type_name:
            left += f" {flag.type_name}"
        right = flag.help
        if flag.choices:
            right += f" [{', '.join(flag.choices)}]"
        if flag.default not in ("", "false"):
            right += f" (default {flag.default})"
        rows.append((left, right.strip()))
    return rows


def defaults(flags: Iterable[Flag]) -> Mapping[str, str]:
    """Flag name → default."""
    return {flag.name: flag.default for flag in flags}
