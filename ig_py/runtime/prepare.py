"""From an image to a gadget that knows its parameters, and on to one with values."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ig_py.errors import ObjectError, UsageError
from ig_py.gadget.spec import GadgetSpec, ParamSpec
from ig_py.operators.base import Context, Operator
from ig_py.records import dataclass, field
from ig_py.runtime.fetch import Timing, timings

if TYPE_CHECKING:
    from ig_py.oci.artifact import Artifact


@dataclass
class Gadget:
    """A gadget before its parameters have values.

    *base* is what the image declares; *info* the same with the fields and
    parameters of the operators that would act on it; *annotate*: elements of
    ``--annotate``, which both have.
    """

    artifact: Artifact
    base: GadgetSpec
    info: GadgetSpec
    global_values: Mapping[str, str] = field(default_factory=dict)
    annotate: Sequence[str] = ()

    @property
    def params(self) -> list[ParamSpec]:
        return self.info.params


@dataclass
class Prepared:
    """A gadget and its operators with values: ready to be loaded."""

    spec: GadgetSpec
    context: Context
    operators: list[Operator]
    elf: bytes | None
    """None for a gadget without programs."""
    values: dict[str, bytes]
    """Bytes of the eBPF parameters' variables."""
    timings: list[Timing] = field(default_factory=list)


def read(
    artifact: Artifact,
    *,
    annotate: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> Gadget:
    """Read what a gadget image declares, and what the operators would add to it.

    *annotate*: elements of ``--annotate``. *values*: parameters known before any gadget is,
    full name → text.

    Raises:
        MetadataError: The image's metadata is not valid.
        ObjectError: The image's eBPF object is not valid.
        LimitError: The image exceeds a limit.
        UsageError: An annotation or a value is not valid.
    """
    from ig_py.gadget.load import load_gadget
    from ig_py.operators import instantiate_all

    base = load_gadget(artifact, annotate=annotate)
    info = copy.deepcopy(base)
    if _has_wasm(artifact):
        info.notes.append(
            "the image has a wasm module, which this version does not run: "
            "what it would add or change is missing"
        )
    known = dict(values or {})
    instantiate_all(Context(info, params=dict(known)))
    return Gadget(artifact, base, info, known, annotate)


def prepare(gadget: Gadget, values: Mapping[str, str]) -> Prepared:
    """Give *gadget* its parameters: full name → text; others have their defaults.

    :class:`UsageError` for a value that does not fit, :class:`ObjectError` for a
    gadget that this version cannot run.
    """
    from ig_py.gadget.load import ebpf_object
    from ig_py.operators import instantiate_all

    elf = ebpf_object(gadget.artifact)
    given = {p.full_name: p.default for p in gadget.params}
    given.update(gadget.global_values)
    given.update(values)
    spec = _with_custom(gadget, given)
    context = Context(spec, params=given, image=gadget.artifact.reference)
    operators = instantiate_all(context)
    _check_runnable(gadget.artifact, spec, elf)
    values_of = encode_values(spec, given)
    return Prepared(spec, context, operators, elf, values_of, timings(spec, given))


def _with_custom(gadget: Gadget, given: Mapping[str, str]) -> GadgetSpec:
    """A spec of its own, patched by the custom parameters among *given*."""
    from ig_py.gadget.load import load_gadget
    from ig_py.gadget.params import CUSTOM_PREFIX

    custom = {p.full_name for p in gadget.params if p.prefix == CUSTOM_PREFIX}
    if not custom:
        return copy.deepcopy(gadget.base)
    return load_gadget(
        gadget.artifact,
        name=gadget.base.name,
        annotate=gadget.annotate,
        values={name: given[name] for name in custom},
    )


def _check_runnable(artifact: Artifact, spec: GadgetSpec, elf: bytes | None) -> None:
    """A gadget without programs shows what operators make."""
    if elf is not None or spec.datasources:
        return
    if _has_wasm(artifact):
        why = "only a wasm module, which this version does not run"
    else:
        why = "and its metadata asks for nothing that could be shown without one"
    raise ObjectError(f"running gadget {spec.name}: the image has no eBPF object, {why}")


def _has_wasm(artifact: Artifact) -> bool:
    from ig_py.oci.media import WASM_LAYER

    return any(layer.descriptor.media_type == WASM_LAYER for layer in artifact.layers)


def encode_values(spec: GadgetSpec, given: Mapping[str, str]) -> dict[str, bytes]:
    """Bytes of every eBPF parameter that has a value, by variable."""
    from ig_py.gadget.params import encode_param

    encoded = {}
    for param in spec.params:
        if not param.variable:
            continue
        text = given.get(param.full_name, param.default)
        if text == param.default and not param.type_hint:
            # A type that has no text form keeps what the object says.
            continue
        if text == "" and param.type_hint != "string":
            raise UsageError(f'parameter "{param.key}" is empty: expected {param.type_hint}')
        encoded[param.variable] = encode_param(param, text)
    return encoded
