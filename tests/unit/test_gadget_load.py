"""Objects and metadata to specs."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.elf_writer import SIGNED, BtfWriter, ElfWriter, exit_
from support.gadget_objects import spec_of, tracer_object

from ig_py.errors import IgPyError, MetadataError, ObjectError
from ig_py.gadget.load import loss_counter
from ig_py.gadget.spec import DataSourceType
from ig_py.operators import instantiate_all
from ig_py.operators.base import Context


def plain(declare: object = None) -> bytes:
    return tracer_object(
        lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)],
        **({"declare": declare} if declare else {}),  # type: ignore[arg-type]
    )


def test_a_tracer() -> None:
    spec = spec_of(plain())
    [ds] = spec.datasources
    assert (ds.name, ds.type, ds.source) == ("ds", DataSourceType.SINGLE, "tracer")
    assert (ds.map, ds.struct, ds.sample_size) == ("events", "event", 64)
    assert [(p.name, p.section) for p in spec.programs] == [("prog", "tracepoint/a/b")]
    assert spec.has_object


def test_a_map_iterator() -> None:
    def declare(btf: BtfWriter, elf: ElfWriter) -> None:
        u64 = btf.integer("unsigned long", 8)
        key = btf.struct("key", 8, [("pid", u64, 0)])
        value = btf.struct("value", 16, [("count", u64, 64)])
        btf.map("counts", 1, key=key, value=value)
        elf.map("counts")
        btf.marker("gadget_mapiter_top___counts")

    spec = spec_of(plain(declare))
    ds = spec.datasource("top")
    assert ds is not None
    assert (ds.type, ds.source, ds.map) == (DataSourceType.ARRAY, "mapiter", "counts")
    assert (ds.key_size, ds.sample_size) == (8, 24)
    assert [(f.name, f.payload_index, f.offset, "role:key" in f.tags) for f in ds.fields] == [
        ("pid", 0, 0, True),
        ("count", 1, 8, False),
    ]
    assert ds.annotations == {"fetch-interval": "1s", "fetch-count": "0"}
    assert {"map-fetch-interval", "map-fetch-count"} <= {p.key for p in spec.params}


def test_key_and_value_fields_must_differ() -> None:
    def declare(btf: BtfWriter, elf: ElfWriter) -> None:
        struct = btf.struct("kv", 8, [("pid", btf.integer("unsigned long", 8), 0)])
        btf.map("counts", 1, key=struct, value=struct)
        elf.map("counts")
        btf.marker("gadget_mapiter_top___counts")

    with pytest.raises(MetadataError, match="'pid' already exists"):
        spec_of(plain(declare))


def test_an_iterator() -> None:
    def declare(btf: BtfWriter, elf: ElfWriter) -> None:
        elf.program("walk", "iter/task", [exit_()])
        btf.marker("gadget_iter_snap___event___walk")

    ds = spec_of(plain(declare)).datasource("snap")
    assert ds is not None
    assert (ds.type, ds.source, ds.programs) == (DataSourceType.ARRAY, "iter", ["walk"])
    assert ds.annotations == {"fetch-interval": "0", "fetch-count": "1"}


def test_programs_in_the_metadata() -> None:
    programs = {"prog": {"optional": True, "fields": ["a", "b"], "attach_to": "x/y"}}
    [program] = spec_of(plain(), {"programs": programs}).programs
    assert program.optional
    assert program.fields_if_absent == ("a", "b")
    assert program.attach_to == "x/y"
    programs = {"prog": {"attach_to": "gadget_program_disabled"}}
    [program] = spec_of(plain(), {"programs": programs}).programs
    assert program.disabled
    assert program.attach_to == ""


@pytest.mark.parametrize(
    ("section", "attach_to", "disabled"),
    [
        ("kprobe/gadget_program_disabled", "", True),
        ("tracepoint/syscalls/gadget_program_disabled", "", True),
        ("uprobe/libc:gadget_program_disabled", "", True),
        ("usdt/libc:a:gadget_program_disabled", "", True),
        ("classifier/ingress/gadget_program_disabled", "", True),
        ("?fentry/gadget_program_disabled", "", True),
        ("uprobe/libc:f", "libc:gadget_program_disabled", True),
        ("uprobe/libc:gadget_program_disabled", "libc:f", False),
        ("kprobe/not_gadget_program_disabled", "", False),
        ("gadget_program_disabled", "", False),
        ("kprobe/f", "", False),
    ],
)
def test_programs_that_are_off(section: str, attach_to: str, disabled: bool) -> None:
    def declare(btf: BtfWriter, elf: ElfWriter) -> None:
        elf.program("more", section, [exit_()])

    metadata = {"programs": {"more": {"attach_to": attach_to}}} if attach_to else {}
    program = next(p for p in spec_of(plain(declare), metadata).programs if p.name == "more")
    assert (program.disabled, program.loaded) == (disabled, not disabled)
    assert program.attach_to == ("" if disabled else attach_to)


@pytest.mark.parametrize(
    ("section", "config", "optional"),
    [
        ("?kprobe/f", None, True),
        ("?kprobe/f", {"optional": False}, False),
        ("kprobe/f", {"optional": True}, True),
        ("kprobe/f", None, False),
    ],
)
def test_a_section_with_a_question_mark_is_optional(
    section: str, config: dict[str, bool] | None, optional: bool
) -> None:
    def declare(btf: BtfWriter, elf: ElfWriter) -> None:
        elf.program("more", section, [exit_()])

    metadata = {"programs": {"more": config}} if config else {}
    program = next(p for p in spec_of(plain(declare), metadata).programs if p.name == "more")
    assert program.optional == optional


def test_an_iterator_with_a_question_mark() -> None:
    def declare(btf: BtfWriter, elf: ElfWriter) -> None:
        elf.program("walk", "?iter/task", [exit_()])
        btf.marker("gadget_iter_snap___event___walk")

    ds = spec_of(plain(declare)).datasource("snap")
    assert ds is not None and ds.programs == ["walk"]


def test_an_optional_program_that_is_not_there_is_noted() -> None:
    spec = spec_of(plain(), {"programs": {"nope": {"optional": True}}})
    assert "'nope'" in spec.notes[0]


def test_annotations_of_the_command_line() -> None:
    [ds] = spec_of(plain(), annotations=["ds.a:columns.width=3", "ds:cli.x=y"]).datasources
    assert ds.fields[0].annotations["columns.width"] == "3"
    assert ds.annotations["cli.x"] == "y"


def test_without_an_object() -> None:
    spec = spec_of(None, {"name": "n"})  # type: ignore[arg-type]
    assert not spec.has_object
    assert spec.datasources == []


def test_without_btf() -> None:
    elf = ElfWriter()
    elf.program("prog", "tracepoint/a/b", [exit_()])
    with pytest.raises(ObjectError, match="no BTF") as raised:
        spec_of(elf.write())
    assert "-g" in raised.value.remedy


def test_loss_in_a_map_or_a_variable() -> None:
    def with_map(btf: BtfWriter, elf: ElfWriter) -> None:
        u64 = btf.integer("unsigned long", 8)
        btf.map("events_lost_samples", 6, key=btf.integer("unsigned int", 4), value=u64)
        elf.map("events_lost_samples")

    def with_variable(btf: BtfWriter, elf: ElfWriter) -> None:
        elf.variable("first", ".bss", 8)
        elf.variable("gadget_lost_samples_events", ".bss", 8)

    assert loss_counter(spec_of(plain()), "events") == {}
    assert loss_counter(spec_of(plain(with_map)), "events") == {"loss_map": "events_lost_samples"}
    assert loss_counter(spec_of(plain(with_variable)), "events") == {
        "loss_var": {"section": ".bss", "offset": 8}
    }


@pytest.mark.parametrize(
    ("size", "taken"), [(32, True), (1025 * 32, True), (33, False), ((1 << 20) + 32, False)]
)
def test_losses_by_namespace_are_found_where_the_size_fits(size: int, taken: bool) -> None:
    def declare(_btf: BtfWriter, elf: ElfWriter) -> None:
        elf.variable("gadget_loss_table_events", ".bss", size)
        elf.variable("gadget_lost_samples_events", ".bss", 8)

    plan = loss_counter(spec_of(plain(declare)), "events")
    table = {"section": ".bss", "offset": 0, "size": size}
    assert plan.get("loss_table") == (table if taken else None)
    assert plan["loss_var"]["section"] == ".bss"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_flipped_bytes_only_raise_our_errors(data: st.DataObject) -> None:
    raw = bytearray(plain())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(IgPyError):
        instantiate_all(Context(spec_of(bytes(raw))))
