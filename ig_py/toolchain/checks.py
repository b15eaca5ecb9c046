"""Checks of gadget.yaml against the schema and the eBPF object (docs/building.md#gadgetyaml)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ig_py.errors import IgPyError, MetadataError
from ig_py.gadget import schema
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import BtfKind, Type
from ig_py.gadget.elf import Elf
from ig_py.gadget.variables import read_programs

LINKAGE_GLOBAL = 1


def check_metadata(raw: bytes, source: str, obj: bytes | None, log: Callable[[str], None]) -> None:
    """Check a metadata file against the schema and, when there is one, the object.

    Each parameter of ``params.ebpf`` must name a ``const volatile`` global and have a key.
    *log* gets remarks about what is odd but harmless.

    Raises:
        MetadataError: There are mistakes; the error has a ``file:line`` for each.
        ObjectError: The object cannot be read.
    """
    document, lines = schema.validate(raw, source)
    if obj is None:
        return
    elf = Elf(obj, "eBPF object")
    btf = object_btf(elf)
    messages = [f"{lines.at(path)}: {message}" for path, message in _param_mistakes(document, btf)]
    if messages:
        raise MetadataError("; ".join(messages), detail="\n".join(messages))
    programs = dict(read_programs(elf))
    for name, config in (document.get("programs") or {}).items():
        sampled = isinstance(config, dict) and ("perf" in config or "sampler" in config)
        if name not in programs and not sampled:
            log(f"{lines.at(('programs', name))}: the object has no program {name!r}")


def remarks(raw: bytes, source: str, obj: bytes, wasm: bytes | None = None) -> list[str]:
    """What a run of the gadget would tell: fields without a text, names that collide."""
    from ig_py.gadget.load import build_spec
    from ig_py.gadget.metadata import Metadata
    from ig_py.operators import instantiate_all
    from ig_py.operators.base import Context

    try:
        metadata = Metadata.parse(raw, source)
        spec = build_spec(metadata, obj, name=metadata.name or source, source="eBPF object")
        instantiate_all(Context(spec, wasm=wasm))
    except IgPyError as err:
        return [f"the gadget would not run: {err}"]
    return [*spec.notes, *(note for ds in spec.datasources for note in ds.notes)]


def object_btf(elf: Elf) -> Btf:
    """The object's types.

    Raises:
        MetadataError: It has none.
    """
    section = elf.section(".BTF")
    if section is None:
        raise MetadataError(
            "reading the eBPF object: it has no BTF", remedy="compile it with -g and keep .BTF"
        )
    return Btf(elf.data(section), "eBPF object")


def check_param_variable(btf: Btf, name: str) -> str | None:
    """Why the variable *name* cannot be a parameter; None when it can."""
    variable = btf.find(name, BtfKind.VAR)
    if variable is None:
        return f"variable {name!r} not found in the eBPF object"
    if variable.linkage != LINKAGE_GLOBAL:
        return f"{name!r} is not a global variable"
    target = btf.type(variable.ref)
    if target.kind == BtfKind.ARRAY:
        target = btf.type(target.element)
    qualifiers = set(_qualifiers(btf, target))
    if BtfKind.CONST not in qualifiers:
        return f"{name!r} is not const"
    if BtfKind.VOLATILE not in qualifiers:
        return f"{name!r} is not volatile"
    return None


def _qualifiers(btf: Btf, target: Type) -> Iterator[BtfKind]:
    while target.kind in (BtfKind.CONST, BtfKind.VOLATILE):
        yield target.kind
        target = btf.type(target.ref)


def _param_mistakes(document: dict[str, Any], btf: Btf) -> Iterator[tuple[tuple[str, ...], str]]:
    params = (document.get("params") or {}).get("ebpf") or {}
    for name, param in params.items():
        path = ("params", "ebpf", name)
        reason = check_param_variable(btf, name)
        if reason is not None:
            yield path, reason
        if param.get("key") in (None, ""):
            yield path, f"param {name!r} has an empty key"
