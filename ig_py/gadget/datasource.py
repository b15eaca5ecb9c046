"""Adding fields to a data source: annotations, their precedence, flags, numbering.

Precedence, later wins: base, implied by C types or given by an operator, template
given by an operator, template named in gadget.yaml, other annotations in gadget.yaml
(docs/reference/metadata.md#annotations-of-fields).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ig_py.errors import LimitError, MetadataError
from ig_py.gadget.metadata import Metadata, scalar_text
from ig_py.gadget.room import Room
from ig_py.gadget.spec import NO_FLAGS, DataSourceSpec, DataSourceType, FieldSpec, Flag, Kind
from ig_py.gadget.templates import BASE, TEMPLATES

MAX_FIELDS = 8192
"""Fields of one data source, those of operators included."""
MAX_NAME = 512
"""Length of a full field name."""


def new_datasource(
    name: str,
    type: DataSourceType,
    metadata: Metadata,
    *,
    source: str = "tracer",
    defaults: Mapping[str, str] | None = None,
    room: Room | None = None,
) -> DataSourceSpec:
    """A data source without fields, with what gadget.yaml says about it applied.

    Args:
        source: ``tracer``, ``iter``, ``mapiter`` or ``operator``.
        defaults: Annotations that gadget.yaml may override.
        room: The limits that it shares with the gadget's other data sources (default: limits
            of its own).

    Raises:
        MetadataError: The data source's entry in gadget.yaml is malformed.
        LimitError: Its texts are too long.
    """
    path = ["datasources", name]
    config = metadata.mapping([*path, "fields"])
    ds = DataSourceSpec(
        name=name,
        type=type,
        source=source,
        tags=metadata.text_list([*path, "tags"]),
        annotations={**(defaults or {}), **metadata.texts([*path, "annotations"])},
        field_config=config,
        room=room or Room(),
    )
    ds.room.take_texts([name], ds.tags, ds.annotations)
    return ds


def _configured(ds: DataSourceSpec, full_name: str) -> tuple[dict[str, str], list[str]]:
    # Sub-fields may be configured by dotted name or as nested mappings.
    config = Metadata(on_probe=ds.room.take_probe)
    config.config = ds.field_config
    path = [full_name] if full_name else []
    annotations = config.texts([*path, "annotations"]) if path else {}
    tags = [scalar_text(t) for t in config.text_list([*path, "tags"])] if path else []
    return annotations, tags


def _expand(ds: DataSourceSpec, name: str, full_name: str) -> Mapping[str, str]:
    template = TEMPLATES.get(name)
    if template is None:
        ds.notes.append(f"template {name!r} not found for field {full_name!r} of {ds.name!r}")
        return {}
    return template


def annotations_for(
    ds: DataSourceSpec, full_name: str, own: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Final annotations and configured tags of a field whose creator gives *own*."""
    result = dict(own)
    if "template" in own:
        result.update(_expand(ds, own["template"], full_name))
    configured, tags = _configured(ds, full_name)
    if "template" in configured:
        result.update(_expand(ds, configured["template"], full_name))
    result.update(configured)
    return result, tags


def append_field(
    ds: DataSourceSpec,
    name: str,
    kind: Kind,
    own: Mapping[str, str],
    *,
    parent: FieldSpec | None,
    tags: Sequence[str],
    flags: Flag,
    order: int,
    payload_index: int,
) -> FieldSpec:
    """Append one field.

    Raises:
        MetadataError: Its full name is empty, too long, or taken.
        LimitError: The data source has too many fields.
    """
    full_name = f"{parent.full_name}.{name}" if parent else name
    if len(ds.fields) >= MAX_FIELDS:
        raise LimitError(f"data source {ds.name!r}: more than {MAX_FIELDS} fields")
    if not name or len(full_name) > MAX_NAME:
        raise MetadataError(f"data source {ds.name!r}: field name empty or over {MAX_NAME} long")
    if ds.exact(full_name) is not None:
        raise MetadataError(f"data source {ds.name!r}: field {full_name!r} already exists")
    annotations, more_tags = annotations_for(ds, full_name, own)
    if parent:
        flags |= Flag.HAS_PARENT
    if annotations.get("columns.hidden") == "true":
        flags |= Flag.HIDDEN
    field = FieldSpec(
        name=name,
        full_name=full_name,
        index=len(ds.fields),
        kind=kind,
        payload_index=payload_index,
        parent=parent.index if parent else None,
        flags=flags,
        order=order,
        tags=[*tags, *more_tags],
        annotations=annotations,
    )
    ds.room.take_texts([full_name], field.tags, annotations)
    ds.fields.append(field)
    return field


def add_field(
    ds: DataSourceSpec,
    name: str,
    kind: Kind,
    *,
    parent: FieldSpec | None = None,
    annotations: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
    order: int | None = None,
    flags: Flag = NO_FLAGS,
) -> FieldSpec:
    """Add a field that an operator fills.

    *annotations* replace the base annotations when given (an empty mapping
    too). *order* defaults to the field's index at the top level, to 0 below a
    parent. A field with Flag.EMPTY only groups others and holds no value.

    Raises:
        MetadataError: The name is taken.
        LimitError: The data source has too many fields.
    """
    if order is None:
        order = 0 if parent else len(ds.fields)
    empty = bool(flags & Flag.EMPTY)
    field = append_field(
        ds,
        name,
        Kind.INVALID if empty else kind,
        BASE if annotations is None else annotations,
        parent=parent,
        tags=tags,
        flags=flags,
        order=order,
        payload_index=0 if empty else ds.payloads,
    )
    if not empty:
        ds.payloads += 1
    return field


def add_formatted_field(
    ds: DataSourceSpec,
    source: FieldSpec,
    name: str,
    *,
    annotations: Mapping[str, str] | None = None,
    flags: Flag = NO_FLAGS,
) -> FieldSpec:
    """Add a string beside *source*: same parent, same column order when it has one."""
    return add_field(
        ds,
        name,
        Kind.STRING,
        parent=ds.fields[source.parent] if source.parent is not None else None,
        annotations=annotations,
        order=source.order or len(ds.fields),
        flags=flags,
    )


def children(ds: DataSourceSpec, parent: FieldSpec) -> list[FieldSpec]:
    """Direct sub-fields."""
    return [f for f in ds.fields[parent.index + 1 :] if f.parent == parent.index]


def hide_tree(ds: DataSourceSpec, top: FieldSpec) -> None:
    """Set the hidden flag of a field and everything below it."""
    top.flags |= Flag.HIDDEN
    hidden = {top.index}
    # A parent comes before its sub-fields.
    for field in ds.fields[top.index + 1 :]:
        if field.parent in hidden:
            field.flags |= Flag.HIDDEN
            hidden.add(field.index)
