"""Flags known only at run time: parsing as pflag does (docs/reference/cli.md#flags-of-run).

click wants its options before it parses; the flags of ``run`` depend on the
image, which is itself an argument. GNU long flags, ``-x``, ``-xVAL``,
``-x=VAL``, ``--flag=VAL``, ``--flag VAL``; boolean flags take a value only
after ``=``; ``--`` ends the flags. The last of repeated flags wins. Numbers of
flags without a parameter have the syntax of Go's literals, as in ``ig``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ig_py import numbers
from ig_py.errors import UsageError
from ig_py.records import dataclass, field

MAX_VALUE_FILE = 1 << 20
"""Largest file, in bytes, that an ``@file`` value may name."""

_HELP_TYPES = {"int64": "int", "uint64": "uint", "float64": "float", "": "string"}
_LOOKS_LIKE_A_VALUE = frozenset(
    {"true", "false", "t", "f", "1", "0", "yes", "no", "y", "n", "on", "off"}
)


UNKNOWN = "unknown "
"""How the message of a flag that does not exist begins."""


@dataclass(frozen=True)
class Flag:
    """One flag. *param* is the full parameter name that it sets ("" for none).

    *type* is ``bool``, ``string``, ``duration``, ``seconds`` (a number of them or a duration),
    ``[]string``, ``float32/64`` or an integer type; unknown types are strings. *unsupported*: why
    any other value than the default is refused.
    """

    name: str
    type: str = "string"
    default: str = ""
    help: str = ""
    short: str = ""
    param: str = ""
    choices: tuple[str, ...] = ()
    hidden: bool = False
    unsupported: str = ""

    @property
    def is_bool(self) -> bool:
        return self.type == "bool"

    @property
    def is_list(self) -> bool:
        return self.type == "[]string"

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
    """What a command line holds.

    Attributes:
        values: Flag name → text, only of flags that were given.
        positionals: The other words.
        after_bool: Index of a positional → the boolean flag that stands right before it.
    """

    values: dict[str, str] = field(default_factory=dict)
    positionals: list[str] = field(default_factory=list)
    help: bool = False
    after_bool: dict[int, Flag] = field(default_factory=dict)


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
        before: Flag | None = None
        while rest:
            word = rest.pop(0)
            if word == "--":
                out.positionals += rest
                break
            if word.startswith("--"):
                before = self._long(word, rest, out, strict, swallow)
            elif word.startswith("-") and word != "-":
                before = self._shorts(word, rest, out, strict)
            else:
                if before is not None:
                    if word.lower() in _LOOKS_LIKE_A_VALUE:
                        raise misplaced_value(before, word)
                    out.after_bool[len(out.positionals)] = before
                out.positionals.append(word)
                before = None
        return out

    def _long(
        self, word: str, rest: list[str], out: Parsed, strict: bool, swallow: bool
    ) -> Flag | None:
        """Take one word; the flag, if it is a boolean one without a value."""
        name, given, value = word[2:].partition("=")
        flag = self._by_name.get(name)
        if flag is not None:
            self._take(flag, given, value, rest, out, strict)
            return flag if flag.is_bool and not given else None
        if name == "help" and not given:
            out.help = True
        elif not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {word}")
        elif strict:
            raise UsageError(f"{UNKNOWN}flag: --{name}")
        elif swallow and not given and rest and not rest[0].startswith("-"):
            rest.pop(0)
        return None

    def _shorts(self, word: str, rest: list[str], out: Parsed, strict: bool) -> Flag | None:
        """Take one word; the last flag in it, if it is a boolean one without a value."""
        letters = word[1:]
        flag: Flag | None = None
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self._by_short.get(letter)
            if flag is None:
                if letter == "h":
                    out.help = True
                    continue
                if strict:
                    raise UsageError(f"{UNKNOWN}shorthand flag: {letter!r} in {word}")
                return None
            if letters.startswith("="):
                self._take(flag, "=", letters[1:], rest, out, strict)
                return None
            if not flag.is_bool and letters:
                self._take(flag, "=", letters, rest, out, strict)
                return None
            self._take(flag, "", "", rest, out, strict)
        return flag if flag is not None and flag.is_bool else None

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


def misplaced_value(flag: Flag, word: str) -> UsageError:
    """The error for *word*, which stands behind a boolean flag as if it were its value."""
    value = word if why_invalid("bool", word) == "" else "false"
    return UsageError(
        f'"{word}" is not the value of {flag.shown}: a boolean flag has its value after "="',
        remedy=f"write --{flag.name}={value}",
    )


def checked(flag: Flag, value: str) -> str:
    """*value* as the parameter will see it; ``@file`` is replaced by the file's content.

    Raises:
        UsageError: It does not fit the type; the error names the flag.
    """
    return checked_text(flag, _from_file(flag, value))


def checked_text(flag: Flag, value: str) -> str:
    """As :func:`checked`, for a value from a manifest: ``@file`` is not replaced."""
    why = why_invalid(flag.type, value, flag.choices, literal=not flag.param)
    if why:
        raise UsageError(f'invalid argument "{value}" for "{flag.shown}" flag: {why}')
    if flag.is_bool:
        value = "true" if numbers.parse_bool(value) else "false"
    if flag.unsupported and value != flag.default:
        raise UsageError(f"--{flag.name}: {flag.unsupported}", remedy="leave the flag out")
    if flag.type in numbers.INTEGER_RANGES and not flag.param:
        return str(numbers.parse_literal(value))
    return value


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


def why_invalid(
    type_name: str, value: str, choices: Sequence[str] = (), *, literal: bool = False
) -> str:
    """Why *value* is no *type_name*; empty when it is one.

    *literal*: an integer has the syntax of Go's literals.
    """
    if type_name == "bool":
        try:
            numbers.parse_bool(value)
        except ValueError:
            return numbers.BOOLS_HINT
    elif type_name in numbers.INTEGER_RANGES or type_name in ("float32", "float64"):
        return numbers.why_no_number(type_name, value, literal=literal)
    elif type_name in ("duration", "seconds"):
        from ig_py.gadget import duration

        try:
            if type_name == "duration":
                duration.parse_duration(value)
            else:
                duration.parse_seconds(value)
        except ValueError:
            hint = 'expected a duration such as "500ms" or "1m30s"'
            return hint if type_name == "duration" else hint + ", or a number of seconds"
    elif choices and value not in choices:
        return f"valid values are: {', '.join(choices)}"
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
