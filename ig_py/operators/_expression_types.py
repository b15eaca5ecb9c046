"""Types of expressions, and the signatures of functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Type = str
"""``bool``, ``int``, ``float``, ``string``; ``[T]`` a list, ``[]`` one without elements;
``range`` and ``networks``, which are only for the right side of ``in``."""

BOOL, INT, FLOAT, STRING = "bool", "int", "float", "string"
QUANTIFIERS = ("all", "any", "none", "one")


def is_number(type_: Type) -> bool:
    return type_ in (INT, FLOAT)


def is_list(type_: Type) -> bool:
    return type_.startswith("[")


def list_of(type_: Type | None) -> Type:
    return f"[{type_ or ''}]"


def element(type_: Type) -> Type:
    return type_[1:-1]


def name(type_: Type) -> str:
    return f"a list of {name(element(type_)) or 'nothing'}" if is_list(type_) else type_


def common(left: Type, right: Type) -> Type | None:
    """The type of a value that has either type; None when they do not combine."""
    if left == right:
        return left
    return FLOAT if is_number(left) and is_number(right) else None


def comparable(left: Type, right: Type) -> bool:
    scalar = (BOOL, INT, FLOAT, STRING)
    if right == "" and left in scalar:
        return True
    return left in scalar and right in scalar and common(left, right) is not None


def operation(op: str, left: Type, right: Type) -> Type | None:
    """The type of *left op right*; None where there is no such operation."""
    numbers = is_number(left) and is_number(right)
    both = left if left == right else None
    if op in ("and", "or"):
        return BOOL if both == BOOL else None
    if op in ("==", "!="):
        return BOOL if comparable(left, right) else None
    if op in ("<", "<=", ">", ">="):
        return BOOL if numbers or both == STRING else None
    if op in ("matches", "contains", "startsWith", "endsWith"):
        return BOOL if both == STRING else None
    if op == "in":
        if is_list(right):
            return BOOL if comparable(left, element(right)) else None
        return BOOL if (left, right) in ((STRING, "networks"), (INT, "range")) else None
    if op == "..":
        return "range" if both == INT else None
    if op == "%":
        return INT if both == INT else None
    if op in ("/", "**"):
        return FLOAT if numbers else None
    if op == "+" and both == STRING:
        return STRING
    return common(left, right) if numbers else None


Signature = Callable[[Sequence[Type]], Type | None]


def _fixed(result: Type, *wanted: Type) -> Signature:
    return lambda given: result if tuple(given) == wanted else None


def _number_to(result: Type | None) -> Signature:
    def check(given: Sequence[Type]) -> Type | None:
        return (result or given[0]) if len(given) == 1 and is_number(given[0]) else None

    return check


def _one_of(result: Type, *accepted: Type) -> Signature:
    return lambda given: result if len(given) == 1 and given[0] in accepted else None


def _length(given: Sequence[Type]) -> Type | None:
    return INT if len(given) == 1 and (given[0] == STRING or is_list(given[0])) else None


def _trim(given: Sequence[Type]) -> Type | None:
    return STRING if tuple(given) in ((STRING,), (STRING, STRING)) else None


def _extreme(given: Sequence[Type]) -> Type | None:
    if len(given) == 1 and is_list(given[0]):
        given = [element(given[0])]
    if not given or not all(map(is_number, given)):
        return None
    return FLOAT if FLOAT in given else INT


_BITS = _fixed(INT, INT, INT)
_TEXTS = _fixed(STRING, STRING, STRING)
FUNCTIONS: dict[str, Signature] = {
    "len": _length,
    "abs": _number_to(None),
    "ceil": _number_to(FLOAT),
    "floor": _number_to(FLOAT),
    "round": _number_to(FLOAT),
    "int": _one_of(INT, INT, FLOAT, STRING),
    "float": _one_of(FLOAT, INT, FLOAT, STRING),
    "string": _one_of(STRING, INT, BOOL, STRING),
    "upper": _fixed(STRING, STRING),
    "lower": _fixed(STRING, STRING),
    "trim": _trim,
    "trimPrefix": _TEXTS,
    "trimSuffix": _TEXTS,
    "hasPrefix": _fixed(BOOL, STRING, STRING),
    "hasSuffix": _fixed(BOOL, STRING, STRING),
    "indexOf": _fixed(INT, STRING, STRING),
    "lastIndexOf": _fixed(INT, STRING, STRING),
    "max": _extreme,
    "min": _extreme,
    "bitand": _BITS,
    "bitor": _BITS,
    "bitxor": _BITS,
    "bitnand": _BITS,
    "bitnot": _fixed(INT, INT),
    "bitshl": _BITS,
    "bitshr": _BITS,
    "bitushr": _BITS,
}
