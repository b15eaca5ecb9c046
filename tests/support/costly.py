"""Small images that stand for far more work than their size.

Each builder returns the bytes of one image part; what they have in common is a product: of
maps and members, data sources and fields, programs and functions, names and their length.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ig_py.oci import digest, media
from support.elf_writer import (
    LOCAL,
    BtfWriter,
    ElfWriter,
    Insn,
    call,
    exit_,
    helper,
    load,
)

RINGBUF = 27
SECTION = "tracepoint/syscalls/sys_enter_execve"
LONG = 4000
"""Bytes of a long name."""
NOBITS = 8


class Gadget:
    """A gadget object with one tracer of ``struct event {u32 pid;}``, to be overdone."""

    def __init__(self, tracer: bool = True) -> None:
        self.btf, self.elf = BtfWriter(), ElfWriter()
        self.u32 = self.btf.integer("unsigned int", 4)
        self.btf.map("events", RINGBUF, entries=4096)
        self.elf.map("events")
        if tracer:
            self.btf.struct("event", 4, [("pid", self.u32, 0)])
            self.btf.marker("gadget_tracer_x___events___event")

    def write(self, program: Sequence[Insn] = (exit_(),)) -> bytes:
        self.elf.program("prog", SECTION, program)
        self.btf.maps()
        return self.elf.write(self.btf.write())


def maps_of_one_struct(maps: int, members: int) -> bytes:
    gadget = Gadget()
    btf = gadget.btf
    number = btf.number(RINGBUF)
    definition = btf.struct("", 16, [("type", number, 0)] + [("m", number, 0)] * (members - 1))
    variables = [(btf.variable(f"m{i}", definition), 32 * i, 32) for i in range(maps)]
    variables.append((btf.variable("events", definition), 32 * maps, 32))
    gadget.elf.program("prog", SECTION, [exit_()])
    btf.datasec(".maps", variables)
    return gadget.elf.write(btf.write())


def enum_fields(fields: int, values: int, suffix: str = "_raw") -> bytes:
    gadget = Gadget(tracer=False)
    btf = gadget.btf
    enum = btf.enum("e", 4, [(f"V{i}", i) for i in range(values)], False)
    btf.struct("event", 4 * fields, [(f"f{i}{suffix}", enum, 32 * i) for i in range(fields)])
    btf.marker("gadget_tracer_x___events___event")
    return gadget.write()


def tracers_of_one_struct(tracers: int, fields: int) -> bytes:
    gadget = Gadget(tracer=False)
    btf, u32 = gadget.btf, gadget.u32
    btf.struct("event", 4 * fields, [(f"f{i}", u32, 32 * i) for i in range(fields)])
    for index in range(tracers):
        btf.marker(f"gadget_tracer_x{index}___events___event")
    return gadget.write()


def parameters_without_content(size: int, count: int = 1) -> bytes:
    """``const volatile`` arrays of *size* bytes in a ``.rodata`` that has no bytes in the file."""
    gadget = Gadget()
    btf, elf = gadget.btf, gadget.elf
    char = btf.integer("char", 1, 1)
    kind = btf.const(btf.volatile(btf.array(char, size)))
    elf.section(".rodata", type=NOBITS, flags=2).size = size * count
    for index in range(count):
        btf.variable(f"p{index}", kind)
        btf.marker(f"gadget_param_p{index}")
        elf.symbol(f"p{index}", ".rodata", index * size, size)
    return gadget.write()


def entries_variable(size: int) -> bytes:
    """``events_max_entries``, which says how large a map is, of *size* bytes."""
    gadget = Gadget()
    gadget.elf.section(".bss", type=NOBITS, flags=3).size = size
    gadget.elf.symbol("events_max_entries", ".bss", 0, size)
    return gadget.write()


def parameters_of_one_enum(count: int, values: int) -> bytes:
    gadget = Gadget()
    btf = gadget.btf
    enum = btf.enum("e", 4, [(f"V{i}", i) for i in range(values)], False)
    kind = btf.const(btf.volatile(enum))
    for index in range(count):
        btf.variable(f"p{index}", kind)
        btf.marker(f"gadget_param_p{index}")
        gadget.elf.variable(f"p{index}", ".rodata", struct.pack("<I", values - 1))
    return gadget.write()


def type_names(count: int, kind: int = 2) -> bytes:
    """Types whose names are the suffixes of few strings of 4095 bytes."""
    gadget = Gadget()
    btf, extra = gadget.btf, bytearray()
    for index in range(count):
        if index % (LONG - 8) == 0:
            start = len(btf.strings)
            btf.strings += b"%08d" % index + b"A" * (LONG - 8) + b"\0"
        if kind == 14:
            extra += struct.pack("<IIII", start + index % (LONG - 8), kind << 24, gadget.u32, 1)
        else:
            extra += struct.pack("<III", start + index % (LONG - 8), kind << 24, 0)
    btf.types += [bytes(extra), *[b""] * (count - 1)]
    return gadget.write()


def members_behind_typedefs(members: int, length: int, name: int) -> bytes:
    gadget = Gadget(tracer=False)
    btf, target = gadget.btf, gadget.u32
    for index in range(length):
        target = btf.typedef(f"t{index}".ljust(name, "y"), target)
    btf.struct("event", 4 * members, [(f"f{i}", target, 32 * i) for i in range(members)])
    btf.marker("gadget_tracer_x___events___event")
    return gadget.write()


def symbols(count: int, length: int, section: str = ".maps") -> bytes:
    """Symbols that share one name of *length* bytes."""
    raw = bytearray(Gadget().write())
    headers = _headers(raw)
    table = next(i for i, h in enumerate(headers) if h[1] == 2)
    strings = headers[table][6]
    names = bytes(raw[headers[strings][4] : headers[strings][4] + headers[strings][5]])
    rows = bytes(raw[headers[table][4] : headers[table][4] + headers[table][5]])
    rows += struct.pack("<IBBHQQ", len(names), 0x10, 0, 0xFFF1, 0, 0) * (count - len(rows) // 24)
    return _with(raw, headers, {table: rows, strings: names + b"A" * length + b"\0"})


def variables_of_a_long_section(count: int) -> bytes:
    gadget = Gadget()
    for index in range(count):
        gadget.elf.variable(f"v{index}", ".data." + "s" * LONG, 4 * b"\0")
    return gadget.write()


def relocation_sections(sections: int, entries: int) -> bytes:
    """Sections of relocations upon the one program, all at the same place of the file."""
    raw = bytearray(Gadget().write())
    headers = _headers(raw)
    table = next(i for i, h in enumerate(headers) if h[1] == 2)
    code = next(i for i, h in enumerate(headers) if h[2] == 6)
    place = len(raw)
    raw += struct.pack("<QQ", 0, 1 << 32 | 1) * entries
    headers += [[0, 9, 0, 0, place, 16 * entries, table, code, 8, 16]] * (sections - len(headers))
    return _with(raw, headers, {})


def relocations(count: int) -> bytes:
    return relocation_sections(len(_headers(bytearray(Gadget().write()))) + 1, count)


def interactions(maps: int, name: int) -> bytes:
    """A program of a long name that does three things with each map."""
    gadget = Gadget()
    body = []
    for index in range(maps):
        gadget.elf.map(f"m{index}")
        for number in (1, 2, 3):
            body += [load(1, f"m{index}"), helper(number)]
    gadget.elf.program("p".ljust(name, "q"), SECTION, [*body, exit_()])
    return gadget.write()


def programs_that_call(programs: int, size: int) -> bytes:
    """Programs that reach the same function of *size* instructions."""
    gadget = Gadget()
    gadget.elf.program("sub", ".text", [Insn(0xB7)] * (size - 1) + [exit_()], bind=LOCAL)
    for index in range(programs):
        gadget.elf.program(f"p{index}", SECTION, [call("sub"), exit_()])
    return gadget.write()


def looping_programs(count: int, rounds: int, section: str = SECTION) -> bytes:
    """Programs whose loop of *rounds* the verifier follows to its end, in five instructions."""
    gadget = Gadget()
    body = [Insn(0xB7, 6), Insn(0x07, 6, 0, 0, 1), Insn(0xA5, 6, 0, -2, rounds)]
    body += [Insn(0xB7), exit_()]
    for index in range(count - 1):
        gadget.elf.program(f"p{index}", section, body)
    return gadget.write(body)


def noted_instructions(count: int, line: int, *, core: bool = False, lists: int = 0) -> bytes:
    """One long source line (or CO-RE relocation) at each instruction; *lists* without records."""
    gadget = Gadget()
    btf = gadget.btf
    kind = btf.struct("s".ljust(line, "t"), 4, [])
    text, section = btf.string("x" * line), btf.string(SECTION)
    width = 16
    if core:
        records = [struct.pack("<IIII", 8 * i, kind, text, 0) for i in range(count)]
    else:
        records = [struct.pack("<IIII", 8 * i, 0, text, 0) for i in range(count)]
    body = struct.pack("<III", width, section, count) + b"".join(records)
    body += struct.pack("<II", section, 0) * lists
    first, second = (b"", body) if core else (body, b"")
    gadget.elf.section(
        ".BTF.ext",
        data=struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, 0, 0, 0, len(first), len(first), len(second))
        + first
        + second,
    )
    return gadget.write([Insn(0xB7)] * (count - 1) + [exit_()])


def instructions(count: int) -> bytes:
    return Gadget().write([Insn(0xB7)] * (count - 1) + [exit_()])


def case_variants(annotations: int, tracers: int = 1024) -> tuple[bytes, bytes]:
    """An object and metadata: data sources that differ by case share all annotations."""
    gadget = Gadget(tracer=False)
    gadget.btf.struct("event", 4, [("pid", gadget.u32, 0)])
    letters = "abcdefghij"
    for index in range(tracers):
        name = "".join(c.upper() if index >> i & 1 else c for i, c in enumerate(letters))
        gadget.btf.marker(f"gadget_tracer_{name}___events___event")
    shared = {"annotations": {f"k{i}": "v" for i in range(annotations)}}
    config = {"datasources": {letters: {**shared, "fields": {"pid": shared}}}}
    return gadget.write(), json.dumps(config).encode()


def dotted_names(fields: int) -> tuple[bytes, bytes]:
    """Fields with dots in their names, and metadata where every cut of them leads on."""
    gadget = Gadget(tracer=False)
    members = [(".".join("a" * 14) + f".b{i}", gadget.u32, 32 * i) for i in range(fields)]
    gadget.btf.struct("event", 4 * fields, members)
    gadget.btf.marker("gadget_tracer_x___events___event")

    def tree(depth: int) -> dict[str, object]:
        return {".".join("a" * n): tree(depth - n) for n in range(1, depth + 1)}

    return gadget.write(), json.dumps({"datasources": {"x": {"fields": tree(12)}}}).encode()


def open_templates(count: int) -> bytes:
    """A patch with templates that do not end."""
    patch = {"patch": {"name": "{{" * count}, "defaultValue": "v"}
    return json.dumps({"params": {"custom": {"c": patch}}}).encode()


def grown_templates(count: int, text: int) -> bytes:
    """A patch of which each text becomes *text* characters."""
    texts = {f"k{i}": '{{call .getConfig "d"}}' for i in range(count)}
    return json.dumps(
        {"d": "v" * text, "params": {"custom": {"c": {"patch": texts, "defaultValue": "v"}}}}
    ).encode()


def empty_sections(count: int) -> bytes:
    """A wasm module of sections without content."""
    return b"\0asm\1\0\0\0" + b"\0\0" * count


class Layout:
    """An image layout, written without the code that reads it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data: bytes, kind: str) -> dict[str, object]:
        """Store *data*; its descriptor."""
        name = digest.of(data)
        (self.root / "blobs/sha256" / name.partition(":")[2]).write_bytes(data)
        return {"mediaType": kind, "digest": name, "size": len(data)}

    def manifest(
        self, layers: Sequence[Mapping[str, object]], more: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        config = self.blob(b"name: x\n", media.CONFIG_YAML)
        document = {"schemaVersion": 2, "config": config, "layers": list(layers), **(more or {})}
        return self.blob(json.dumps(document).encode(), media.MANIFEST)

    def index(self, manifests: Iterable[Mapping[str, object]]) -> dict[str, object]:
        listed = [{**m, "platform": {"architecture": a, "os": "linux"}}
                  for m in manifests for a in ("amd64", "arm64")]  # fmt: skip
        document = {"schemaVersion": 2, "manifests": listed}
        return self.blob(json.dumps(document).encode(), media.INDEX)

    def write(self, entries: Sequence[Mapping[str, object]]) -> Path:
        document = {"schemaVersion": 2, "manifests": list(entries)}
        (self.root / "index.json").write_text(json.dumps(document))
        return self.root


def named(descriptor: Mapping[str, object], name: str) -> dict[str, object]:
    return {**descriptor, "annotations": {media.REF_NAME: name}}


def _headers(raw: bytearray) -> list[list[int]]:
    (start,) = struct.unpack_from("<Q", raw, 40)
    (count,) = struct.unpack_from("<H", raw, 60)
    return [list(struct.unpack_from("<IIQQQQIIQQ", raw, start + 64 * i)) for i in range(count)]


def _with(raw: bytearray, headers: list[list[int]], contents: Mapping[int, bytes]) -> bytes:
    """*raw* with other contents of some sections, and a table of sections of its own."""
    for index, data in contents.items():
        headers[index][4:6] = len(raw), len(data)
        raw += data
    raw += bytes(-len(raw) % 8)
    struct.pack_into("<Q", raw, 40, len(raw))
    struct.pack_into("<H", raw, 60, len(headers))
    for header in headers:
        raw += struct.pack("<IIQQQQIIQQ", *header)
    return bytes(raw)
