"""Changing samples, blindly or knowing what a tar or JSON looks like."""

from __future__ import annotations

import json
import random
from typing import Any

INTERESTING = [
    b"", b"\0", b"\xff", b"..", b"/", b"@sha256:", b"%00", b"-1", b"1e999", b"null", b"\x7f" * 8,
    b"9" * 30, b"\xc2\x9b", "\u202e".encode(), b"[" * 64, b"{" * 64,
]  # fmt: skip
LEAVES: list[Any] = [
    None, True, -1, 0, 1, 1 << 31, 1 << 63, 1 << 80, 1.5, "", "x", "../../etc",
    "sha256:" + "0" * 64, "sha256:../x", [], {}, [[]], "\x1b[2J", "a" * 5000,
]  # fmt: skip
MAX_SAMPLE = 2 << 20
"""Bytes; larger ones are not tried."""
BLOCK = 512


def raw(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, put in, taken out or doubled."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.randint(0, 16))
        match rng.randrange(5):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at:at] = rng.choice(INTERESTING)
            case 2:
                del out[at:end]
            case 3:
                out[at:end] = rng.choice(INTERESTING)
            case _:
                out[at:at] = out[at:end]
    return bytes(out)


def document(data: bytes, rng: random.Random) -> bytes:
    """JSON with a value changed, moved or dropped; other things as :func:`raw`."""
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return raw(data, rng)
    if rng.random() < 0.2 or not isinstance(root, (dict, list)):
        return raw(data, rng)
    found = list(places(root))
    for _ in range(rng.randint(1, 3)):
        if not found:
            break
        holder, key = rng.choice(found)
        other_holder, other_key = rng.choice(found)
        try:
            match rng.randrange(4):
                case 0:
                    del holder[key]
                case 1:
                    holder[key] = json.loads(json.dumps(other_holder[other_key]))
                case 2 if isinstance(holder[key], str):
                    text = raw(holder[key].encode(), rng).decode("utf-8", "replace")
                    holder[key] = text
                case _:
                    holder[key] = rng.choice(LEAVES)
        except (KeyError, IndexError):
            continue
    return json.dumps(root).encode()


def places(value: Any) -> Any:
    """(holder, key) of every value below *value*."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from places(inner)


def archive(data: bytes, rng: random.Random) -> bytes:
    """A tar with a member dropped, doubled, renamed, of another type, or with other content."""
    if rng.random() < 0.15 or len(data) < 3 * BLOCK:
        return raw(data, rng)
    found = members(data)
    at = rng.randrange(len(found))
    header, content = found[at]
    match rng.randrange(7):
        case 0:
            del found[at]
        case 1:
            found.insert(rng.randrange(len(found)), found[at])
        case 2:
            names = [b"../x", b"/etc/x", b"index.json", b"oci-layout", b"blobs/sha256/" + b"0" * 64,
                     b"blobs/sha256/../../x", b"x\0y", rng.randbytes(20)]  # fmt: skip
            header[:100] = rng.choice(names).ljust(100, b"\0")
        case 3:
            header[156:157] = rng.choice(
                [b"0", b"1", b"2", b"3", b"5", b"6", b"g", b"x", b"L", b"S"]
            )
            header[157:257] = rng.choice([b"/etc/passwd", b"index.json", b""]).ljust(100, b"\0")
        case 4:
            sizes = [b"77777777777\0", b"-1", b"\x80" + bytes(10) + b"\1", b"00000000000\0"]
            header[124:136] = rng.choice(sizes).ljust(12, b"\0")
        case 5:
            header[rng.randrange(BLOCK)] = rng.randrange(256)
        case _:
            content = document(content, rng)
            found[at] = sized(header, content)
    return joined(found)


def members(data: bytes) -> list[tuple[bytearray, bytes]]:
    """(header, content) of a tar's members."""
    found, at = [], 0
    while at + BLOCK <= len(data) and any(data[at : at + BLOCK]):
        header = bytearray(data[at : at + BLOCK])
        try:
            size = int(header[124:135].rstrip(b"\0 ") or b"0", 8)
        except ValueError:
            size = 0
        found.append((header, data[at + BLOCK : at + BLOCK + size]))
        at += BLOCK + size + -size % BLOCK
    return found or [(bytearray(BLOCK), b"")]


def sized(header: bytearray, content: bytes) -> tuple[bytearray, bytes]:
    """A member with that content, of that size."""
    header[124:136] = b"%011o\0" % len(content)
    return header, content


def joined(members: list[tuple[bytearray, bytes]]) -> bytes:
    """A tar of *members*."""
    return b"".join(_summed(h) + c + bytes(-len(c) % BLOCK) for h, c in members) + bytes(2 * BLOCK)


def _summed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
