"""NaCl's secretbox (XSalsa20 and Poly1305), which cosign encrypts private keys with.

``cryptography`` has Poly1305 but no Salsa20; a key is a few hundred bytes, so plain Python
is fast enough. Specification: Bernstein, "Cryptography in NaCl" and "Extending the Salsa20
nonce".
"""

from __future__ import annotations

import struct

KEY_SIZE = 32
NONCE_SIZE = 24
TAG_SIZE = 16
_MASK = 0xFFFFFFFF
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_ROUNDS = (
    # A column round, then a row round: (target, left, right, rotation).
    (4, 0, 12, 7), (8, 4, 0, 9), (12, 8, 4, 13), (0, 12, 8, 18),
    (9, 5, 1, 7), (13, 9, 5, 9), (1, 13, 9, 13), (5, 1, 13, 18),
    (14, 10, 6, 7), (2, 14, 10, 9), (6, 2, 14, 13), (10, 6, 2, 18),
    (3, 15, 11, 7), (7, 3, 15, 9), (11, 7, 3, 13), (15, 11, 7, 18),
    (1, 0, 3, 7), (2, 1, 0, 9), (3, 2, 1, 13), (0, 3, 2, 18),
    (6, 5, 4, 7), (7, 6, 5, 9), (4, 7, 6, 13), (5, 4, 7, 18),
    (11, 10, 9, 7), (8, 11, 10, 9), (9, 8, 11, 13), (10, 9, 8, 18),
    (12, 15, 14, 7), (13, 12, 15, 9), (14, 13, 12, 13), (15, 14, 13, 18),
)  # fmt: skip


def seal(key: bytes, nonce: bytes, message: bytes) -> bytes:
    """Encrypt and authenticate: the tag, then the cipher text."""
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    stream = _stream(key, nonce, 32 + len(message))
    body = bytes(a ^ b for a, b in zip(message, stream[32:], strict=True))
    return Poly1305.generate_tag(stream[:32], body) + body


def open_box(key: bytes, nonce: bytes, box: bytes) -> bytes | None:
    """The message; None when the key is wrong or the box was changed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    tag, body = box[:TAG_SIZE], box[TAG_SIZE:]
    stream = _stream(key, nonce, 32 + len(body))
    try:
        Poly1305.verify_tag(stream[:32], body, tag)
    except InvalidSignature:
        return None
    return bytes(a ^ b for a, b in zip(body, stream[32:], strict=True))


def _stream(key: bytes, nonce: bytes, size: int) -> bytes:
    if len(key) != KEY_SIZE or len(nonce) != NONCE_SIZE:
        raise ValueError("a key has 32 bytes and a nonce 24")
    state = _core(_state(key, nonce[:16]))
    subkey = struct.pack("<8I", *(state[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))
    out = bytearray()
    block = 0
    while len(out) < size:
        start = _state(subkey, nonce[16:] + struct.pack("<Q", block))
        mixed = _core(start)
        out += struct.pack("<16I", *((a + b) & _MASK for a, b in zip(start, mixed, strict=True)))
        block += 1
    return bytes(out[:size])


def _state(key: bytes, middle: bytes) -> list[int]:
    k, m = struct.unpack("<8I", key), struct.unpack("<4I", middle)
    return [_SIGMA[0], *k[:4], _SIGMA[1], *m, _SIGMA[2], *k[4:], _SIGMA[3]]


def _core(start: list[int]) -> list[int]:
    x = list(start)
    for _ in range(10):
        for target, left, right, rotation in _ROUNDS:
            total = (x[left] + x[right]) & _MASK
            x[target] ^= ((total << rotation) | (total >> (32 - rotation))) & _MASK
    return x
