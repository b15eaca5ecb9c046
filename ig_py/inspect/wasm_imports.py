"""What a wasm module imports: enough of the binary format (WebAssembly core §5) for inspection."""

from __future__ import annotations

from ig_py.errors import LimitError, ObjectError

MAX_SIZE = 64 << 20
MAX_SECTIONS = 4096
"""Sections before the imports: those of no size cost two bytes."""
MAX_IMPORTS = 4096
MAX_NAME = 1024
_IMPORT_SECTION = 2


class _Reader:
    def __init__(self, raw: bytes, source: str) -> None:
        self.raw = raw
        self.source = source
        self.pos = 0

    def bad(self, why: str) -> ObjectError:
        return ObjectError(f"reading wasm module of {self.source}: {why}")

    def take(self, size: int) -> bytes:
        if self.pos + size > len(self.raw):
            raise self.bad("it is cut short")
        chunk = self.raw[self.pos : self.pos + size]
        self.pos += size
        return chunk

    def skip(self, size: int) -> None:
        if self.pos + size > len(self.raw):
            raise self.bad("it is cut short")
        self.pos += size

    def u32(self) -> int:
        """Unsigned LEB128 of at most 32 bits."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                if value >> 32:
                    break
                return value
        raise self.bad("a number is too large")

    def name(self) -> str:
        size = self.u32()
        if size > MAX_NAME:
            raise LimitError(f"reading wasm module of {self.source}: a name of {size} bytes")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise self.bad("a name is not UTF-8") from None

    def limits(self) -> None:
        if self.take(1)[0] & 1:
            self.u32()
        self.u32()

    def description(self) -> None:
        match self.take(1)[0]:
            case 0:
                self.u32()
            case 1:
                self.take(1)
                self.limits()
            case 2:
                self.limits()
            case 3:
                self.take(2)
            case 4:
                self.take(1)
                self.u32()
            case other:
                raise self.bad(f"an import has unknown kind {other}")


def wasm_imports(raw: bytes, module: str, source: str) -> list[str]:
    """Names imported from *module*, in order.

    Raises:
        ObjectError: *raw* is not a wasm module, or malformed.
        LimitError: It exceeds a limit.
    """
    if len(raw) > MAX_SIZE:
        raise LimitError(f"reading wasm module of {source}: {len(raw)} bytes, at most {MAX_SIZE}")
    reader = _Reader(raw, source)
    if reader.take(4) != b"\0asm" or reader.take(4) != b"\1\0\0\0":
        raise reader.bad("it is not a wasm binary of version 1")
    names: list[str] = []
    sections = 0
    while reader.pos < len(raw):
        sections += 1
        if sections > MAX_SECTIONS:
            raise LimitError(f"reading wasm module of {source}: more than {MAX_SECTIONS} sections")
        section, size = reader.take(1)[0], reader.u32()
        if section != _IMPORT_SECTION:
            reader.skip(size)
            continue
        count = reader.u32()
        if count > MAX_IMPORTS:
            raise LimitError(f"reading wasm module of {source}: {count} imports")
        for _ in range(count):
            home, name = reader.name(), reader.name()
            reader.description()
            if home == module:
                names.append(name)
        break
    return names
