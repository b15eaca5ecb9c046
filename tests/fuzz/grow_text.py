"""Changes that multiply parts of documents: YAML, JSON, and archives with JSON in them."""

from __future__ import annotations

import json
import random
from typing import Any

import yaml

from fuzz import mutate

MAX_GROWN = 1 << 20
"""Bytes that one change adds, about."""
_TEXTS = ("{{", '{{call .getConfig "d"}}', "a.", "<", "\n", "\u2028", "x")


def yaml_document(data: bytes, rng: random.Random) -> bytes:
    """A gadget.yaml with something multiplied; else some bytes changed."""
    if rng.random() < 0.25:
        return mutate.raw(data, rng)
    try:
        root = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError):
        return mutate.raw(data, rng)
    if not isinstance(root, dict):
        return mutate.raw(data, rng)
    root = multiplied(root, rng, 12)
    if rng.random() < 0.1:
        root["d"] = "v" * (1 << rng.randint(4, 16))
    # JSON is YAML, but for what its texts may hold unescaped.
    return json.dumps(root, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")


def json_document(data: bytes, rng: random.Random) -> bytes:
    """JSON with something multiplied, or changed as :func:`mutate.document` does."""
    if rng.random() < 0.6:
        return mutate.document(data, rng)
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return mutate.raw(data, rng)
    return json.dumps(multiplied(root, rng, 14)).encode()


def archive(data: bytes, rng: random.Random) -> bytes:
    """A tar with names or members multiplied, or changed as :func:`mutate.archive` does."""
    if rng.random() < 0.6 or len(data) < 3 * mutate.BLOCK:
        return mutate.archive(data, rng)
    members = mutate.members(data)
    at = rng.randrange(len(members))
    header, content = members[at]
    how = rng.randrange(3)
    if how == 0:
        # An extended header with many records before a member.
        records = b"12 atime=12\n" * (1 << rng.randint(1, 12))
        extended = bytearray(header)
        extended[156:157] = b"x"
        members[at:at] = [mutate.sized(extended, records)] * (1 << rng.randint(0, 8))
    elif how == 1:
        for index, (head, content) in enumerate(members):
            if head.startswith(b"index.json\0"):
                members[index] = mutate.sized(head, _more_names(content, rng))
    else:
        members[at] = mutate.sized(header, json_document(content, rng))
    return mutate.joined(members)


def _more_names(content: bytes, rng: random.Random) -> bytes:
    try:
        entries = (root := json.loads(content))["manifests"]
        one = json.dumps(rng.choice(entries))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return content
    for index in range(1 << rng.randint(4, 14)):
        new = json.loads(one)
        if isinstance(new, dict):
            new["annotations"] = {
                "org.opencontainers.image.ref.name": f"ghcr.io/x/n{index}:{rng.randrange(4)}"
            }
        entries.append(new)
    return json.dumps(root).encode()


def multiplied(root: Any, rng: random.Random, most: int) -> Any:
    """*root* with a list's item, a mapping's value or a text many times."""
    places = list(mutate.places(root))
    if not places:
        return root
    holder, key = rng.choice(places)
    inner = holder[key]
    count = max(1, min(1 << rng.randint(1, most), MAX_GROWN // len(json.dumps(inner))))
    match rng.randrange(4):
        case 0 if isinstance(holder, list):
            holder[key:key] = [inner] * count
        case 0 | 1 if isinstance(holder, dict):
            end = rng.choice(["", ".a", ".annotations"])
            for index in range(count):
                holder[f"{key}{index:x}{end}"] = inner
        case 2:
            holder[key] = rng.choice(_TEXTS) * count
        case _:
            for _ in range(min(count, 40)):
                inner = rng.choice([{str(key): inner}, [inner], {f"{key}.{key}": inner}])
            holder[key] = inner
    return root
