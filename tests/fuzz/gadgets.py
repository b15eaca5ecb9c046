"""Targets that go all the way of a gadget: read, listed, and prepared as for a run."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from functools import cache, partial

from support.elf_writer import BtfWriter, ElfWriter, call, exit_, helper, load

from fuzz import mutate
from fuzz.cost import lap
from ig_py.errors import IgPyError
from ig_py.inspect import extra_info
from ig_py.inspect.render import MODES, render
from ig_py.inspect.wasm_imports import wasm_imports
from ig_py.oci import media
from ig_py.oci.artifact import Artifact, Descriptor, Layer
from ig_py.runtime.plan import PlanSettings, compile_plan
from ig_py.runtime.prepare import prepare, read

RINGBUF, HASH = 27, 1
SECTION = "tracepoint/syscalls/sys_enter_execve"

_METADATA = b"""\
name: f
datasources:
  ds:
    annotations: {a: b}
    fields:
      pid: {annotations: {template: pid, columns.width: 7}, tags: [x, y]}
      in.a: {annotations: {description: "d"}}
programs:
  prog: {optional: true, fields: [pid]}
params:
  ebpf:
    limit: {key: limit, description: "How many", defaultValue: "3"}
  custom:
    c: {defaultValue: v, values: {v: {patch: {name: '{{call .getConfig "name"}}'}}}}
paramDefaults: {operator.oci.ebpf.limit: "4"}
"""


def artifact(config: bytes, ebpf: bytes | None, wasm: bytes | None = None) -> Artifact:
    layers = tuple(
        Layer(Descriptor(kind, "sha256:" + "0" * 64, len(data)), data)
        for kind, data in ((media.EBPF_LAYER, ebpf), (media.WASM_LAYER, wasm))
        if data is not None
    )
    return Artifact(
        reference="f",
        normalized="f",
        digest="sha256:" + "0" * 64,
        manifest_raw=b"{}",
        manifest={},
        config=config,
        config_descriptor=Descriptor(media.CONFIG_YAML, "sha256:" + "0" * 64, len(config)),
        layers=layers,
        origin="store",
        annotations={},
    )


def _in_every_mode(provider: Callable[[], extra_info.ExtraInfo]) -> None:
    content = provider().content
    for mode in MODES:
        render(content, mode)
        lap()


def whole_way(image: Artifact, kind: Callable[[IgPyError], str]) -> str:
    """What became of each step of *image*: ``made``, or what *kind* says of the error."""
    try:
        gadget = read(image)
    except IgPyError as err:
        return kind(err)
    lap()
    ends = []

    def attempt(work: Callable[[], object]) -> None:
        try:
            work()
            ends.append("made")
        except IgPyError as err:
            ends.append(kind(err))
        lap()

    for provider in extra_info.providers(image, gadget.info).values():
        attempt(partial(_in_every_mode, provider))
    attempt(lambda: render(extra_info.datasources_document(gadget.info), "yaml", sort=False))

    def plan() -> None:
        made = prepare(gadget, {})
        compile_plan(made.spec, made.context.plan, PlanSettings())

    attempt(plan)
    return " ".join(ends)


def objects(kind: Callable[[IgPyError], str]) -> Callable[[bytes], str]:
    """Samples are eBPF objects."""
    return lambda data: whole_way(artifact(_METADATA, data), kind)


def documents(kind: Callable[[IgPyError], str]) -> Callable[[bytes], str]:
    """Samples are gadget.yaml files of one small object."""
    return lambda data: whole_way(artifact(data, small_object()), kind)


def modules(kind: Callable[[IgPyError], str]) -> Callable[[bytes], str]:
    """Samples are wasm modules."""

    def run(data: bytes) -> str:
        try:
            return str(len(wasm_imports(data, "ig", "f")))
        except IgPyError as err:
            return kind(err)

    return run


@cache
def small_object() -> bytes:
    """One of each thing that a gadget's object can have."""
    btf, elf = BtfWriter(), ElfWriter()
    u32, u64 = btf.integer("unsigned int", 4), btf.integer("unsigned long", 8)
    char = btf.integer("char", 1, 1)
    color = btf.enum("color", 4, [("RED", 1), ("GREEN", 2)], signed=False)
    inner = btf.struct("inner", 8, [("a", u32, 0), ("color_raw", color, 32)])
    stamp = btf.typedef("gadget_timestamp", u64)
    members = [
        ("timestamp_raw", stamp, 0), ("pid", u32, 64), ("color_raw", color, 96),
        ("in", inner, 128), ("comm", btf.array(char, 16), 192),
    ]  # fmt: skip
    btf.struct("event", 40, members)
    key = btf.struct("key", 4, [("k", u32, 0)])
    value = btf.struct("value", 8, [("v", u64, 0)])
    btf.map("events", RINGBUF, entries=4096)
    btf.map("counts", HASH, key=key, value=value, entries=8)
    for name in ("events", "counts"):
        elf.map(name)
    btf.marker("gadget_tracer_ds___events___event")
    btf.marker("gadget_mapiter_totals___counts")
    constants = []
    for name, target, data in (
        ("limit", u32, struct.pack("<I", 7)),
        ("choice", color, struct.pack("<I", 1)),
        ("word", btf.array(char, 8), b"abc\0\0\0\0\0"),
    ):
        constants.append((btf.variable(name, btf.const(btf.volatile(target))), 0, len(data)))
        btf.marker(f"gadget_param_{name}")
        elf.variable(name, ".rodata", data)
    btf.datasec(".rodata", constants)
    elf.variable("counter", ".bss", 8)
    body = [load(1, "events"), helper(25), load(1, "counts"), helper(1), helper(2), call("sub")]
    elf.program("prog", SECTION, [*body, load(2, "events"), exit_()])
    elf.program("other", "kprobe/f", [load(1, "counts"), helper(3), call("sub"), exit_()])
    elf.program("sub", ".text", [load(1, "counts"), helper(1), exit_()])
    btf.maps()
    elf.section(".BTF.ext", data=_notes(btf, inner))
    return elf.write(btf.write())


def _notes(btf: BtfWriter, type_id: int) -> bytes:
    section, line = btf.string(SECTION), btf.string("\tx = it->a;")
    lines = struct.pack("<III", 16, section, 1) + struct.pack("<IIII", 0, 0, line, 0)
    core = struct.pack("<III", 16, section, 1)
    core += struct.pack("<IIII", 0, type_id, btf.string("0:1"), 0)
    head = struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, 0, 0, 0, len(lines), len(lines), len(core))
    return head + lines + core


def object_seeds() -> list[bytes]:
    return [small_object()]


def document_seeds() -> list[bytes]:
    return [_METADATA, b"name: f\n"]


def module_seeds() -> list[bytes]:
    name = b"\x02ig\x01f"
    imports = b"\x02" + name + b"\x00\x00" + name + b"\x02\x00\x01"
    return [b"\0asm\1\0\0\0" + b"\x00\x02\x01c" + b"\x02%c" % len(imports) + imports]


def grown_module(data: bytes, rng: random.Random) -> bytes:
    """Pieces of a module many times; else some bytes changed."""
    if rng.random() < 0.5 or len(data) < 10:
        return mutate.raw(data, rng)
    start = rng.randrange(8, len(data))
    piece = data[start : start + rng.choice([2, 3, 7, 16])]
    return data[:start] + piece * (1 << rng.randint(1, 18)) + data[start:]
