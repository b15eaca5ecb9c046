"""Expressions of ``--filter-expr``: parsed, type-checked, and written as a condition of the plan.

Grammar, precedences and types are those of the language expr, which ``ig`` uses, as far as
docs/filter-expressions.md says. Types are checked here, so that the core can decide a condition
for every event, except where an operation has no value (``1 % 0``).
"""

from __future__ import annotations

import ipaddress
from typing import Any, NoReturn

from ig_py.errors import UsageError
from ig_py.gadget.spec import DataSourceSpec, Flag, Kind
from ig_py.operators._expression_tokens import Token, split, unquoted
from ig_py.operators._expression_types import (
    BOOL,
    FLOAT,
    FUNCTIONS,
    INT,
    QUANTIFIERS,
    STRING,
    Type,
    common,
    element,
    is_list,
    is_number,
    list_of,
    name,
    operation,
)
from ig_py.records import dataclass

MAX_LENGTH = 4096
MAX_DEPTH = 40
"""Deepest nesting of sub-expressions."""

_BINARY = {
    "|": 0, "or": 10, "||": 10, "and": 15, "&&": 15,
    "==": 20, "!=": 20, "<": 20, ">": 20, "<=": 20, ">=": 20,
    "in": 20, "matches": 20, "contains": 20, "startsWith": 20, "endsWith": 20,
    "..": 25, "+": 30, "-": 30, "*": 60, "/": 60, "%": 60, "**": 100, "^": 100,
}  # fmt: skip
_NEGATED = frozenset({"in", "matches", "contains", "startsWith", "endsWith"})
_SAME = {"hasPrefix": "startsWith", "hasSuffix": "endsWith"}
_UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
_WORDS = frozenset(
    {"true", "false", "nil", "not", "let", "if"} | {w for w in _BINARY if w.isalpha()}
)
_INTEGERS = frozenset(
    {
        Kind.INT8, Kind.INT16, Kind.INT32, Kind.INT64,
        Kind.UINT8, Kind.UINT16, Kind.UINT32, Kind.UINT64,
    }
)  # fmt: skip

Node = dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """A sub-expression with its type, and its offset in the text.

    A range (``1..5``), which only ``in`` takes, has the ends *range* and no *node*.
    """

    node: Node | None
    type: Type
    at: int
    range: tuple[Node, ...] = ()


def condition(ds: DataSourceSpec, text: str, flag: str) -> Node:
    """*text*, the value of *flag*, as the plan's condition on events of *ds*.

    Raises:
        UsageError: It is no expression, or its value is not true or false.
    """
    return _Parser(ds, text, flag).whole()


class _Parser:
    def __init__(self, ds: DataSourceSpec, text: str, flag: str) -> None:
        self._ds = ds
        self._text = text
        self._flag = flag
        self._depth = 0
        self._elements: list[Type] = []
        if len(text) > MAX_LENGTH:
            raise UsageError(f"{flag}: longer than {MAX_LENGTH} characters")
        self._tokens = split(text, self._bad)
        self._next = 0

    def whole(self) -> Node:
        part = self._expression()
        if self._token.kind != "end":
            self._bad(f"unexpected {self._token.text!a}", self._token.at)
        node = self._one(part, BOOL)
        level, depth = [node], 0
        while level:
            depth += 1
            level = [arg for one in level for arg in one.get("args", ())]
        if depth > MAX_DEPTH:
            self._bad(f"nested over {MAX_DEPTH} deep", 0)
        return node

    def _bad(self, why: str, at: int) -> NoReturn:
        raise UsageError(f"{self._flag}: {why} (character {at + 1} of {self._text!a})")

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _at_sign(self, *texts: str) -> bool:
        return self._token.kind in ("sign", "name") and self._token.text in texts

    def _expect(self, text: str) -> None:
        token = self._take()
        if token.kind != "sign" or token.text != text:
            self._bad(f"unexpected {token.text or 'end'!a} instead of {text!a}", token.at)

    def _expression(self, least: int = 0) -> _Part:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._bad(f"nested over {MAX_DEPTH} deep", self._token.at)
        left = self._prefix()
        while True:
            token = self._token
            negated = token.kind == "name" and token.text == "not"
            if negated:
                token = self._tokens[self._next + 1]
                if token.text not in _NEGATED:
                    break
            strength = _BINARY.get(token.text) if token.kind in ("sign", "name") else None
            if strength is None or strength < least:
                break
            self._next += 2 if negated else 1
            if token.text == "|":
                left = self._piped(left)
                continue
            right = self._expression(strength + (token.text not in ("**", "^")))
            left = self._binary(token, left, right)
            if negated:
                left = _Part({"op": "not", "args": [left.node]}, BOOL, token.at)
        if least == 0 and self._at_sign("?"):
            left = self._ternary(left)
        self._depth -= 1
        return left

    def _ternary(self, condition: _Part) -> _Part:
        self._take()
        asked = self._one(condition, BOOL)
        then = self._expression()
        self._expect(":")
        otherwise = self._expression()
        joint = common(then.type, otherwise.type)
        if joint is None:
            self._bad(f"{name(then.type)} or {name(otherwise.type)}", then.at)
        args = [asked, self._one(then), self._one(otherwise)]
        return _Part({"op": "if", "args": args}, joint, condition.at)

    def _prefix(self) -> _Part:
        token = self._token
        if self._at_sign(*_UNARY):
            self._take()
            part = self._expression(_UNARY[token.text])
            if token.text in ("not", "!"):
                return _Part({"op": "not", "args": [self._one(part, BOOL)]}, BOOL, token.at)
            if not is_number(part.type):
                self._bad(f"{token.text}{name(part.type)}", token.at)
            node = self._one(part)
            if token.text == "-":
                node = {"op": "neg", "args": [node]}
            return _Part(node, part.type, token.at)
        part = self._primary(self._take())
        if self._at_sign("[", "?.", "??"):
            self._bad(f"{self._token.text} is not supported", self._token.at)
        return part

    def _primary(self, token: Token) -> _Part:
        if token.kind == "int":
            return self._number(token)
        if token.kind == "float":
            value = float(token.text.replace("_", ""))
            if value in (float("inf"), float("-inf")):
                self._bad("a number that large", token.at)
            return _Part({"op": "value", "value": value}, FLOAT, token.at)
        if token.kind == "text":
            return _Part({"op": "value", "value": unquoted(token, self._bad)}, STRING, token.at)
        if token.kind == "name":
            return self._named(token)
        if token.text == "(":
            part = self._expression()
            self._expect(")")
            return part
        if token.text == "[":
            return self._list(token)
        if token.text == "#":
            if not self._elements:
                self._bad("# is the element within all(), any(), none(), one()", token.at)
            return _Part({"op": "element"}, self._elements[-1], token.at)
        self._bad(f"unexpected {token.text or 'end'!a}", token.at)

    def _number(self, token: Token) -> _Part:
        digits = token.text.replace("_", "")
        value = int(digits, 10 if digits.isdigit() else 0)
        if value >= 1 << 64:
            self._bad("a number of more than 64 bits", token.at)
        return _Part({"op": "value", "value": value}, INT, token.at)

    def _list(self, token: Token) -> _Part:
        items: list[_Part] = []
        while not self._at_sign("]"):
            items.append(self._expression())
            if not self._at_sign("]"):
                self._expect(",")
        self._take()
        of: Type | None = items[0].type if items else None
        for item in items[1:]:
            of = common(of, item.type) if of else None
            if of is None:
                self._bad("a list of different types", item.at)
        nodes = [self._one(item) for item in items]
        return _Part({"op": "list", "args": nodes}, list_of(of), token.at)

    def _named(self, token: Token) -> _Part:
        if token.text in ("true", "false"):
            return _Part({"op": "value", "value": token.text == "true"}, BOOL, token.at)
        if token.text in _WORDS:
            self._bad(
                f"{token.text} is not supported"
                if token.text in ("nil", "let", "if")
                else f"unexpected {token.text!a}",
                token.at,
            )
        if self._at_sign("("):
            return self._call(token, [])
        path = token.text
        while self._at_sign("."):
            self._take()
            member = self._take()
            if member.kind != "name":
                self._bad(f"unexpected {member.text or 'end'!a} after a point", member.at)
            path += f".{member.text}"
        return self._field(path, token)

    def _field(self, path: str, token: Token) -> _Part:
        field = self._ds.field(path)
        if field is None:
            self._bad(f"unknown name {path}", token.at)
        if field.flags & Flag.EMPTY or field.kind in (Kind.INVALID, Kind.BYTES) or field.array:
            self._bad(f"{path} has no value that could be compared", token.at)
        type_ = STRING
        if field.kind == Kind.BOOL:
            type_ = BOOL
        elif field.kind in (Kind.FLOAT32, Kind.FLOAT64):
            type_ = FLOAT
        elif field.kind in _INTEGERS:
            type_ = INT
        return _Part({"op": "field", "field": field.index}, type_, token.at)

    def _piped(self, first: _Part) -> _Part:
        token = self._take()
        if token.kind != "name" or not self._at_sign("("):
            self._bad("a function is expected behind |", token.at)
        return self._call(token, [first])

    def _call(self, token: Token, args: list[_Part]) -> _Part:
        called = token.text
        self._expect("(")
        while not self._at_sign(")"):
            if len(args) == 1 and called in QUANTIFIERS:
                args.append(self._predicate(args[0]))
            else:
                args.append(self._expression())
            if not self._at_sign(")"):
                self._expect(",")
        self._take()
        if called in ("cidr", "CidrMatches"):
            return self._networks(token, args)
        nodes = [self._one(arg) for arg in args]
        if called in QUANTIFIERS:
            if len(args) != 2:
                self._bad(f"{called}(list, condition)", token.at)
            return _Part({"op": called, "args": nodes}, BOOL, token.at)
        if called not in FUNCTIONS:
            known = ", ".join(sorted([*FUNCTIONS, *QUANTIFIERS, "cidr", "CidrMatches"]))
            self._bad(f"there is no function {called}; there are {known}", token.at)
        result = FUNCTIONS[called]([arg.type for arg in args])
        if result is None:
            types = ", ".join(name(arg.type) for arg in args)
            self._bad(f"{called}({types}) is no call", token.at)
        return _Part({"op": _SAME.get(called, called), "args": nodes}, result, token.at)

    def _predicate(self, of: _Part) -> _Part:
        if not is_list(of.type):
            self._bad(f"{name(of.type)} is no list", of.at)
        self._elements.append(element(of.type))
        braces = self._at_sign("{")
        if braces:
            self._take()
        part = self._expression()
        if braces:
            self._expect("}")
        self._elements.pop()
        return _Part(self._one(part, BOOL), BOOL, part.at)

    def _networks(self, token: Token, args: list[_Part]) -> _Part:
        if token.text == "CidrMatches":
            if len(args) != 2 or args[1].type != "networks":
                self._bad("CidrMatches(address, cidr(...))", token.at)
            return self._in_networks(args[0], args[1])
        found = []
        for arg in args:
            text = self._constant(arg)
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError:
                self._bad(f"{text!a} is no network such as 10.0.0.0/8", arg.at)
            if "/" not in text:
                self._bad(f"{text!a} has no prefix length", arg.at)
            mapped = getattr(network.network_address, "ipv4_mapped", None)
            if mapped is not None and network.prefixlen >= 96:
                # Addresses of events are IPv4 where they are IPv4-mapped: so is the network.
                network = ipaddress.ip_network((mapped, network.prefixlen - 96))
            found.append(str(network))
        if not found:
            self._bad("cidr(network, ...)", token.at)
        return _Part({"op": "networks", "value": found}, "networks", token.at)

    def _in_networks(self, address: _Part, networks: _Part) -> _Part:
        assert networks.node is not None
        return _Part({**networks.node, "args": [self._one(address, STRING)]}, BOOL, address.at)

    def _constant(self, part: _Part) -> str:
        node = part.node or {}
        if part.type != STRING or node.get("op") != "value":
            self._bad("a text in quotes is expected", part.at)
        return str(node["value"])

    def _one(self, part: _Part, wanted: Type | None = None) -> Node:
        """The node of *part*, which must have the type *wanted* (None: any)."""
        if wanted is not None and part.type != wanted:
            self._bad(f"expected {name(wanted)}, but got {name(part.type)}", part.at)
        if part.node is None or part.type == "networks":
            self._bad(f"{name(part.type)} is only for the right side of in", part.at)
        return part.node

    def _binary(self, token: Token, left: _Part, right: _Part) -> _Part:
        op = {"&&": "and", "||": "or", "^": "**"}.get(token.text, token.text)
        type_ = operation(op, left.type, right.type)
        if type_ is None:
            self._bad(
                f"{name(left.type)} {token.text} {name(right.type)} is no operation", token.at
            )
        if op == "..":
            ends = (self._one(left), self._one(right))
            return _Part(None, "range", left.at, ends)
        if op == "in" and right.type == "range":
            return _Part({"op": "within", "args": [self._one(left), *right.range]}, BOOL, left.at)
        if op == "in" and right.type == "networks":
            return self._in_networks(left, right)
        if op == "matches":
            from ig_py.operators._regex import core_pattern

            try:
                pattern = core_pattern(self._constant(right))
            except UsageError as error:
                self._bad(str(error), right.at)
            node: Node = {"op": op, "args": [self._one(left)], "value": pattern}
            return _Part(node, BOOL, left.at)
        first = self._one(left)
        # A chain of equal operators is one node, so that it does not nest.
        same = op in ("and", "or") and first["op"] == op
        args = [*first["args"], self._one(right)] if same else [first, self._one(right)]
        return _Part({"op": op, "args": args}, type_, left.at)
