"""The words, numbers, texts and signs of an expression."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn

from ig_py.records import dataclass

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<float>(?:[0-9][0-9_]*)?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)
    |(?P<int>0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>\*\*|==|!=|<=|>=|&&|\|\||\.\.|\?\?|\?\.|[-+*/%^<>!?:.,#|()\[\]{}])
    )""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)"

Bad = Callable[[str, int], NoReturn]
"""Raises the error, given what is wrong and the offset of the character."""


@dataclass(frozen=True)
class Token:
    """*kind*: ``float``, ``int``, ``text``, ``name``, ``sign``, or ``end`` behind the last."""

    kind: str
    text: str
    at: int


def split(text: str, bad: Bad) -> list[Token]:
    tokens, at = [], 0
    end = len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            rest = text[at:].lstrip()
            bad(f"unexpected {rest[:1]!a}", len(text) - len(rest))
        kind = found.lastgroup
        tokens.append(Token(kind, found[kind], found.start(kind)))
        at = found.end()
    return [*tokens, Token("end", "", end)]


def unquoted(token: Token, bad: Bad) -> str:
    """The value of a text token, without quotes and escapes."""
    inside = token.text[1:-1]
    if token.text[0] == "`":
        return inside

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in "xuU" and len(code) > 1:
            number = int(code[1:], 16)
            if number < 0xD800 or 0xDFFF < number < 0x110000:
                return chr(number)
        elif code in _ESCAPES or code in "\\'\"":
            return _ESCAPES.get(code, code)
        bad(f"escape {found[0]!a}", token.at)

    return re.sub(_ESCAPE, one, inside, flags=re.DOTALL)
