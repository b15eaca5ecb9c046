"""C declarations of several kernels, as libbpf writes them, put together into one header.

A kernel's types depend on its release and on what was built into it: the structs of tracepoints
(``trace_event_raw_*``) are those of its own subsystems. A header made of several kernels lets a
source compile wherever one of them knows the type. CO-RE finds the members in the kernel that runs,
so it does not matter whose definition is taken: the first kernel's is.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from itertools import count

_TAG = re.compile(r"(struct|union|enum) (\w+)(?: \{|;)")
_DEFINED = re.compile(r"^(struct|union|enum) (\w+)(?= \{|;)", re.MULTILINE)
_POINTER = re.compile(r"\(\*(?:const )?(\w+)\)")
_FUNCTION = re.compile(r"\b(\w+)\(")
_ALIAS = re.compile(r"\b(\w+)(?:\[[0-9]*\])*;\Z")
_ENUMERATOR = re.compile(r"^\t(\w+) = ", re.MULTILINE)


def merged(texts: Iterable[str]) -> str:
    """The declarations of the first text, then those of each other that are missing until there.

    Each text is complete: what a declaration needs is declared before it.
    """
    known: set[str] = set()
    tags: dict[str, str] = {}
    names: set[str] = set()
    parts: list[str] = []
    for text in texts:
        for block in _blocks(_with_free_tags(text, tags)):
            key = _key(block)
            if key in known:
                continue
            enumerators = _ENUMERATOR.findall(block) if _is_enum(block) else []
            if enumerators and key == block and names.issuperset(enumerators):
                continue  # an enum without a name, whose values are there
            known.add(key)
            block = _with_free_values(block, names.intersection(enumerators), names)
            names.update(_ENUMERATOR.findall(block) if enumerators else ())
            parts.append(block)
    return "\n\n".join(parts) + "\n"


def _with_free_tags(text: str, tags: dict[str, str]) -> str:
    """*text* with other names for what is a struct here and, by *tags*, a union or enum elsewhere.

    They share a name space in C. Its own are added to *tags*.
    """
    found = dict.fromkeys(_DEFINED.findall(text))
    for kind, name in found:
        if tags.setdefault(name, kind) != kind:
            free = _free(name, tags, {other for _, other in found})
            tags[free] = kind
            text = re.sub(rf"\b{kind} {name}\b", f"{kind} {free}", text)
    return text


def _with_free_values(block: str, taken: set[str], names: set[str]) -> str:
    """The enum with other names for the values that another one has."""
    for name in sorted(taken):
        free = _free(name, names, set(_ENUMERATOR.findall(block)))
        block = re.sub(rf"^\t{name} = ", f"\t{free} = ", block, flags=re.MULTILINE)
    return block


def _free(name: str, *used: Container[str]) -> str:
    """*name* with a number behind ``___``, which CO-RE does not count as part of a name: libbpf
    marks repeated names of one kernel in the same way."""
    root = name.partition("___")[0]
    return next(
        free
        for number in count(2)
        if not any((free := f"{root}___{number}") in those for those in used)
    )


def _blocks(text: str) -> Iterator[str]:
    """Declarations at the outermost level: libbpf puts an empty line between them."""
    for block in text.split("\n\n"):
        if block := block.strip("\n"):
            yield block


def _is_enum(block: str) -> bool:
    return block.startswith(("enum ", "typedef enum "))


def _key(block: str) -> str:
    """What the declaration introduces: ``struct NAME``, the alias of a typedef, else all of it."""
    if block.startswith("typedef "):
        last = block.rpartition("\n")[2]
        found = _POINTER.search(last) or _FUNCTION.search(last) or _ALIAS.search(last)
        return found.group(1) if found else block
    tag = _TAG.match(block)
    if tag is None or block == tag.group():  # an enum without a name; a forward declaration
        return block
    return f"{tag.group(1)} {tag.group(2)}"
