"""Small wasm modules, written as instructions (WebAssembly core specification §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_I32, _I64 = 0x7F, 0x7E
_TYPES = {"i": _I32, "I": _I64}

UPCALLS = {
    "gadgetLog": ("iI", ""),
    "getDataSource": ("I", "i"),
    "newDataSource": ("Ii", "i"),
    "dataSourceGetField": ("iI", "i"),
    "dataSourceAddField": ("iIi", "i"),
    "dataSourceSubscribe": ("iiiI", "i"),
    "dataSourceNewPacketSingle": ("i", "i"),
    "dataSourceEmitAndRelease": ("ii", "i"),
    "dataSourceUnreference": ("i", "i"),
    "fieldAddTag": ("iI", "i"),
    "fieldGetScalar": ("iiii", "I"),
    "fieldSet": ("iiiI", "i"),
    "getParamValue": ("II", "i"),
    "setConfig": ("IIi", "i"),
}
"""Functions of the module ``ig`` that tests call: parameters and result, ``i`` of 32 bits."""
CALLBACK = ("Iii", "")


def _number(value: int) -> bytes:
    """Signed LEB128, which is also the unsigned one of numbers below 64."""
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if (value == 0 and not byte & 0x40) or (value == -1 and byte & 0x40):
            return bytes([*out, byte])
        out.append(byte | 0x80)


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _vector(items: Sequence[bytes]) -> bytes:
    return _unsigned(len(items)) + b"".join(items)


def _name(text: str) -> bytes:
    return _unsigned(len(text)) + text.encode()


def i32(value: int) -> bytes:
    return b"\x41" + _number(value)


def i64(value: int) -> bytes:
    return b"\x42" + _number(value - (1 << 64) if value >= 1 << 63 else value)


def local(index: int) -> bytes:
    return b"\x20" + _unsigned(index)


def global_get(index: int) -> bytes:
    return b"\x23" + _unsigned(index)


def global_set(index: int) -> bytes:
    return b"\x24" + _unsigned(index)


DROP = b"\x1a"
UNREACHABLE = b"\x00"
LOOP_FOREVER = b"\x03\x40\x0c\x00\x0b"
ADD_I64 = b"\x7c"


def call(name: str, *arguments: bytes) -> bytes:
    """A call of a function of :data:`UPCALLS`."""
    return b"".join(arguments) + b"\x10" + _unsigned(list(UPCALLS).index(name))


@dataclass
class Text:
    """Texts in the memory of a module, as buffers."""

    data: bytearray = field(default_factory=bytearray)

    def __call__(self, text: str) -> bytes:
        address = len(self.data)
        self.data += text.encode()
        return i64(len(text.encode()) << 32 | address)


def module(
    exports: dict[str, bytes],
    *,
    text: Text | None = None,
    callback: bytes | None = None,
    version: int = 1,
    globals: int = 8,
) -> bytes:
    """A module whose *exports* are functions without parameters that return 32 bits.

    Args:
        exports: Name → instructions.
        text: Texts in its memory, at 0.
        callback: Instructions of ``dataSourceCallback``: locals 0 id, 1 data source, 2 data.
        globals: Number of variables of 32 bits.
    """
    kinds = [*UPCALLS.values(), ("", "i"), ("", "I"), CALLBACK]
    types = [
        b"\x60" + _vector([bytes([_TYPES[c]]) for c in parameters])
        + _vector([bytes([_TYPES[c]]) for c in results])
        for parameters, results in kinds
    ]  # fmt: skip
    imports = [
        _name("ig") + _name(name) + b"\x00" + _unsigned(index) for index, name in enumerate(UPCALLS)
    ]
    first = len(UPCALLS)
    functions = [("gadgetAPIVersion", first + 1, i64(version))]
    functions += [(name, first, body) for name, body in exports.items()]
    if callback is not None:
        functions.append(("dataSourceCallback", first + 2, callback))
    exported = [_name("memory") + b"\x02\x00"]
    exported += [
        _name(name) + b"\x00" + _unsigned(first + index)
        for index, (name, _, _) in enumerate(functions)
    ]
    bodies = [b"\x00" + body + b"\x0b" for _, _, body in functions]
    sections = [
        (1, _vector(types)),
        (2, _vector(imports)),
        (3, _vector([_unsigned(kind) for _, kind, _ in functions])),
        (5, b"\x01\x00\x01"),
        (6, _vector([b"\x7f\x01" + i32(0) + b"\x0b"] * globals)),
        (7, _vector(exported)),
        (10, _vector([_unsigned(len(body)) + body for body in bodies])),
    ]
    if text is not None and text.data:
        data = b"\x00" + i32(0) + b"\x0b" + _unsigned(len(text.data)) + bytes(text.data)
        sections.append((11, _vector([data])))
    return b"\0asm\1\0\0\0" + b"".join(
        bytes([number]) + _unsigned(len(content)) + content for number, content in sections
    )
