"""Regular expressions as ``ig`` takes them (RE2, Go's regexp/syntax), written for the core.

The core's library differs: its ``\\d``, ``\\w``, ``\\s`` and ``\\b`` are Unicode's, where RE2's are
ASCII's; ``\\<`` is the begin of a word, where RE2 has a ``<``; ``[``, ``&&``, ``--`` and ``~~`` in
brackets make sets of sets; ``\\Q…\\E``, ``\\012`` and a ``{`` that begins no repetition are errors.
What neither takes is left as it is: the core refuses it.
"""

from __future__ import annotations

import re

from ig_py.errors import UsageError

_SETS = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r\x20"}
_REPETITION = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}", re.ASCII)
_OCTAL = re.compile(r"\\(0[0-7]{0,2}|[1-7][0-7]{1,2})", re.ASCII)
_QUOTED = re.compile(r"\\Q(.*?)(?:\\E|$)", re.DOTALL)
_POSIX = re.compile(r"\[:\^?(\w+):\]", re.ASCII)
_CLASSES = frozenset(
    [
        "alnum",
        "alpha",
        "ascii",
        "blank",
        "cntrl",
        "digit",
        "graph",
        "lower",
        "print",
        "punct",
        "space",
        "upper",
        "word",
        "xdigit",
    ]
)
_PROPERTY = re.compile(r"\\[pP](?:\{\^?[A-Za-z_]+\}|[A-Za-z])", re.ASCII)
_HEXADECIMAL = re.compile(r"\\x(?:[0-9A-Fa-f]{2}|\{[0-9A-Fa-f]+\})", re.ASCII)
_GROUP = re.compile(r"\(\?(?:P?<[0-9A-Za-z_]+>|[imsU-]*[:)])", re.ASCII)


def core_pattern(pattern: str, where: str = "") -> str:
    """*pattern* in the syntax of the core's library, with the meaning that it has in RE2.

    Raises:
        UsageError: It is no regular expression, or too large a one; *where* begins the message.
    """
    from ig_py._core import pattern_refusal

    try:
        translated = _Translation(pattern).whole()
        why = pattern_refusal(translated)
    except ValueError as error:
        why = str(error)
    if why:
        reason = why.rpartition('": ')[2]
        raise UsageError(f'{where}invalid regular expression "{pattern}": {reason}')
    return translated


class _Translation:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> str:
        out = []
        while self._at < len(self._text):
            out.append(self._next())
        return "".join(out)

    def _next(self) -> str:
        if found := self._take(_QUOTED):
            return "".join(map(_literal, found[1]))
        char = self._text[self._at]
        if char == "\\":
            return self._escape()
        if char == "[":
            return self._brackets() or self._rest()
        if char == "{":
            repetition = self._take(_REPETITION)
            return repetition[0] if repetition else _literal(self._char())
        if group := self._take(_GROUP):
            return group[0]
        return self._char()

    def _escape(self) -> str:
        known = self._take(_PROPERTY) or self._take(_HEXADECIMAL)
        if known:
            return known[0]
        if octal := self._take(_OCTAL):
            return f"\\x{{{int(octal[1], 8):x}}}"
        escaped = self._text[self._at : self._at + 2]
        self._at += len(escaped)
        letter = escaped[1:]
        if letter.lower() in _SETS:
            return f"[{'^' if letter.isupper() else ''}{_SETS[letter.lower()]}]"
        if letter in ("b", "B"):
            return rf"(?-u:\{letter})"
        return _literal(letter) if letter and not letter.isalnum() else escaped

    def _brackets(self) -> str:
        """A set in brackets; "" when it has no end."""
        begin = self._at
        self._at += 1
        out = ["[^" if self._take(re.compile(r"\^")) else "["]
        first = True
        while self._at < len(self._text) and (first or self._text[self._at] != "]"):
            out.append(self._member())
            first = False
        if self._at >= len(self._text):
            self._at = begin
            return ""
        self._at += 1
        return "".join([*out, "]"])

    def _member(self) -> str:
        if named := self._take(_POSIX):
            if named[1] not in _CLASSES:
                raise ValueError(f"unknown class {named[0]}")
            return named[0]
        if of_property := self._take(_PROPERTY):
            return of_property[0]
        letter = self._text[self._at + 1 : self._at + 2]
        if self._text[self._at] == "\\" and letter and letter.lower() in _SETS:
            self._at += 2
            inner = _SETS[letter.lower()]
            return f"[^{inner}]" if letter.isupper() else inner
        low = self._one()
        # A "-" before the end is one of the characters.
        if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 :][:1] not in (
            "",
            "]",
        ):
            self._at += 1
            return f"{low}-{self._one()}"
        return low

    def _one(self) -> str:
        """One character of a set."""
        if self._text[self._at] != "\\":
            return _literal(self._char())
        if hexadecimal := self._take(_HEXADECIMAL):
            return hexadecimal[0]
        if octal := self._take(_OCTAL):
            return f"\\x{{{int(octal[1], 8):x}}}"
        escaped = self._text[self._at : self._at + 2]
        self._at += len(escaped)
        return _literal(escaped[1]) if escaped[1:] and not escaped[1].isalnum() else escaped

    def _take(self, form: re.Pattern[str]) -> re.Match[str] | None:
        if found := form.match(self._text, self._at):
            self._at = found.end()
        return found

    def _char(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _rest(self) -> str:
        rest, self._at = self._text[self._at :], len(self._text)
        return rest


def _literal(char: str) -> str:
    """A character that stands for itself, in brackets too."""
    return char if char.isalnum() or char == "_" or ord(char) > 127 else f"\\x{ord(char):02x}"
