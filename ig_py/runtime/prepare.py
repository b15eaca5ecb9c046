"""From an image to a gadget that knows its parameters, and on to one with values."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ig_py.errors import ObjectError, OutputError, UsageError
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import GadgetSpec, ParamSpec
from ig_py.operators.base import Context, Operator
from ig_py.records import dataclass, field
from ig_py.runtime.array_reader import ReadSchedule, read_schedules

if TYPE_CHECKING:
    from ig_py.oci.artifact import Artifact


log = logging.getLogger(__name__)


class _Recorded(Mapping[str, str]):
    """Parameters' values; records which are looked up and what they are (None: no value)."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.lookups: dict[str, str | None] = {}

    def __getitem__(self, name: str) -> str:
        self.lookups[name] = self._values.get(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass
class _Instances:
    """Operators instantiated on a gadget's spec, and the parameters that they looked up then."""

    context: Context
    operators: list[Operator]
    lookups: Mapping[str, str | None]
    built_in: Mapping[str, str]
    """Defaults of the operators' parameters, without those that gadget.yaml changes."""

    @classmethod
    def of(
        cls,
        spec: GadgetSpec,
        values: Mapping[str, str],
        artifact: Artifact,
        *,
        inspected: bool = False,
    ) -> _Instances:
        from ig_py.operators import instantiate_all

        params = _Recorded(values)
        context = Context(
            spec,
            params=params,
            image=artifact.reference,
            wasm=_wasm_module(artifact),
            inspected=inspected,
        )
        operators = instantiate_all(context)
        changed = Metadata(spec.metadata).mapping(["paramDefaults"])
        built_in = {p.full_name: p.default for p in spec.params
                    if p.full_name.lower() not in changed}  # fmt: skip
        return cls(context, operators, params.lookups, built_in)

    def are_as_with(self, values: Mapping[str, str]) -> bool:
        """Would operators instantiated with *values* be the same?

        For an operator, a parameter without value has its built-in default.
        """
        return all(
            values.get(name) == (self.built_in.get(name) if seen is None else seen)
            for name, seen in self.lookups.items()
        )


@dataclass
class Gadget:
    """A gadget before its parameters have values.

    Attributes:
        artifact: The image.
        base: What the image declares.
        info: The same with the fields and parameters that operators add.
        global_values: Parameters known before any gadget is, full name → text.
        annotate: Elements of ``--annotate``, which *base* and *info* have.
    """

    artifact: Artifact
    base: GadgetSpec
    info: GadgetSpec
    global_values: Mapping[str, str] = field(default_factory=dict)
    annotate: Sequence[str] = ()
    instances: _Instances | None = None
    """The operators of *info*, until :func:`prepare` takes them: they serve one run."""

    @property
    def params(self) -> list[ParamSpec]:
        return self.info.params

    @property
    def notes(self) -> list[str]:
        """What users should know of the image before it runs."""
        return [*self.info.notes, *(n for ds in self.info.datasources for n in ds.notes)]


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
    schedules: list[ReadSchedule] = field(default_factory=list)
    btfgen: tuple[bytes, ...] = ()
    """Layers with the types of kernels that have no BTF."""


def read(
    artifact: Artifact,
    *,
    annotate: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
    inspected: bool = False,
) -> Gadget:
    """Read what a gadget image declares, and what the operators would add to it.

    *annotate*: elements of ``--annotate``. *values*: parameters known before any gadget is,
    full name → text. *inspected*: it will not run, so a wasm module that fails is a note.

    Raises:
        MetadataError: The image's metadata is not valid.
        ObjectError: The image's eBPF object is not valid.
        LimitError: The image exceeds a limit.
        UsageError: An annotation or a value is not valid.
    """
    from ig_py.gadget.load import load_gadget

    _tell_builder(artifact)
    base = load_gadget(artifact, annotate=annotate)
    info = copy.deepcopy(base)
    known = dict(values or {})
    instances = _Instances.of(info, known, artifact, inspected=inspected)
    _check_subjects(info, annotate)
    return Gadget(artifact, base, info, known, annotate, instances)


def _wasm_module(artifact: Artifact) -> bytes | None:
    from ig_py.oci.media import WASM_LAYER

    found = artifact.layers_of(WASM_LAYER)
    if len(found) > 1:
        raise ObjectError(f"reading {artifact.reference}: more than one wasm module")
    return found[0].data if found else None


def _check_subjects(spec: GadgetSpec, annotations: Sequence[str]) -> None:
    """Check that what ``--annotate`` names exists.

    Raises:
        UsageError: It does not exist, or its column cannot be as the annotation says.
    """
    from ig_py.gadget.metadata import parse_annotation
    from ig_py.output.columns import check_annotation

    sources = {ds.name.lower(): ds for ds in spec.datasources}
    for text in annotations:
        datasource, name, key, value = parse_annotation(text)
        ds = sources.get(datasource.lower())
        if ds is None:
            said, hint = (
                f'there is no data source "{datasource}"',
                ", ".join(ds.name for ds in spec.datasources),
            )
        elif name and ds.field(name) is None:
            said = f'data source "{ds.name}" has no field "{name}"'
            hint = ", ".join(f.full_name for f in ds.fields)
        else:
            if (field := ds.field(name)) is not None:
                try:
                    check_annotation(ds, field, key, value)
                except OutputError as error:
                    raise UsageError(f'--annotate "{text}": {error}') from None
            continue
        raise UsageError(f'--annotate "{text}": {said}', remedy=f"name one of: {hint}")


def _tell_builder(artifact: Artifact) -> None:
    """Say in the log when another version than this one built the image."""
    from ig_py.oci.media import BUILDER_VERSION
    from ig_py.version import user_version

    if artifact.origin == "source":
        return
    builder = artifact.annotations.get(BUILDER_VERSION, "")
    if not builder:
        log.info("the image does not say which version built it: it may not fit this version")
    elif builder != user_version():
        log.info(
            "the image was built by another version, %s: it may not fit this one, %s",
            builder,
            user_version(),
        )


def prepare(gadget: Gadget, values: Mapping[str, str]) -> Prepared:
    """Give *gadget* its parameters: full name → text; others have their defaults.

    The operators of *gadget* are used where *values* change nothing that they declare; then
    its *info* is the spec that runs.

    Raises:
        UsageError: A value is not valid.
        ObjectError: This version cannot run the gadget.
    """
    from ig_py.gadget.load import ebpf_object
    from ig_py.oci.media import BTFGEN_LAYER

    elf = ebpf_object(gadget.artifact)
    given = {p.full_name: p.default for p in gadget.params}
    given.update(gadget.global_values)
    given.update(values)
    instances, gadget.instances = gadget.instances, None
    custom = _custom_values(gadget, given)
    if instances is None or custom or not instances.are_as_with(given):
        spec = _patched(gadget, custom) if custom else copy.deepcopy(gadget.base)
        instances = _Instances.of(spec, given, gadget.artifact)
    context = instances.context
    context.params = given
    for operator in instances.operators:
        operator.settle(context)
    _check_runnable(context.spec, elf)
    values_of = encode_values(context.spec, given)
    return Prepared(
        context.spec,
        context,
        instances.operators,
        elf,
        values_of,
        read_schedules(context.spec, given),
        tuple(layer.data for layer in gadget.artifact.layers_of(BTFGEN_LAYER)),
    )


def _custom_values(gadget: Gadget, given: Mapping[str, str]) -> dict[str, str]:
    """Values of the parameters that patch the gadget's metadata."""
    from ig_py.gadget.params import CUSTOM_PREFIX

    return {p.full_name: given[p.full_name] for p in gadget.params if p.prefix == CUSTOM_PREFIX}


def _patched(gadget: Gadget, custom: Mapping[str, str]) -> GadgetSpec:
    """What the image declares with its metadata patched by *custom* parameters."""
    from ig_py.gadget.load import load_gadget

    return load_gadget(
        gadget.artifact, name=gadget.base.name, annotate=gadget.annotate, values=custom
    )


def _check_runnable(spec: GadgetSpec, elf: bytes | None) -> None:
    """A gadget without programs shows what operators make."""
    if elf is not None or spec.datasources:
        return
    raise ObjectError(
        f"running gadget {spec.name}: the image has no eBPF object, and nothing else of it makes "
        "anything that could be shown"
    )


def encode_values(spec: GadgetSpec, given: Mapping[str, str]) -> dict[str, bytes]:
    """Bytes of every eBPF parameter that has a value, by variable."""
    from ig_py.gadget.param_values import encode_param

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
