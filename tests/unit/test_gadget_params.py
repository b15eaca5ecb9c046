"""Parameters: declaration, defaults, and values as bytes."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from support.elf_writer import BOOL, SIGNED, BtfWriter, ElfWriter
from support.gadget_objects import spec_of, tracer_object

from ig_py.cli._flags import checked
from ig_py.cli._run_flags import param_flags
from ig_py.errors import MetadataError, ObjectError, UsageError
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.param_values import check_value, encode_param, split_list
from ig_py.gadget.params import apply_param_defaults
from ig_py.gadget.spec import ParamSpec


def declare(btf: BtfWriter, elf: ElfWriter) -> None:
    def param(name: str, type_id: int, initial: bytes) -> None:
        btf.variable(name, btf.const(btf.volatile(type_id)))
        btf.marker(f"gadget_param_{name}")
        elf.variable(name, ".rodata", initial)

    u32 = btf.integer("unsigned int", 4)
    char = btf.integer("char", 1, SIGNED)
    param("targ_pid", btf.typedef("gadget_pid", u32), bytes(4))
    param("limit", btf.integer("long", 8, SIGNED), struct.pack("<q", -9))
    param("on", btf.typedef("bool", btf.integer("_Bool", 1, BOOL)), b"\1")
    param("ratio", btf.float("float", 4), struct.pack("<f", 0.1))
    param("color", btf.enum("color", 4, [("RED", 1), ("BLUE", 5)], False), struct.pack("<I", 5))
    endpoint = btf.struct("gadget_l3endpoint_t", 32, [("version", char, 128)])
    param("addr", endpoint, bytes(32))
    # The qualifiers of a constant array are on its element.
    text = btf.array(btf.const(btf.volatile(char)), 8)
    btf.variable("word", text)
    btf.marker("gadget_param_word")
    elf.variable("word", ".rodata", b"hello\0\0\0")


def params_of(metadata: dict[str, Any] | None = None) -> dict[str, ParamSpec]:
    raw = tracer_object(lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)], declare=declare)
    return {p.variable: p for p in spec_of(raw, metadata).params if p.variable}


def test_types_and_initial_values() -> None:
    found = {n: (p.type_hint, p.default, p.size) for n, p in params_of().items()}
    assert found == {
        "targ_pid": ("uint32", "0", 4),
        "limit": ("int64", "-9", 8),
        "on": ("bool", "true", 1),
        "ratio": ("float32", "0.1", 4),
        "color": ("", "BLUE", 4),
        "addr": ("ip", "0.0.0.0", 32),
        "word": ("string", "hello", 8),
    }


def test_what_this_version_does_not_have_is_refused_when_it_is_asked_for() -> None:
    def one(btf: BtfWriter, elf: ElfWriter) -> None:
        on = btf.typedef("bool", btf.integer("_Bool", 1, BOOL))
        btf.variable("collect_otel_stack", btf.const(btf.volatile(on)))
        btf.marker("gadget_param_collect_otel_stack")
        elf.variable("collect_otel_stack", ".rodata", b"\0")

    raw = tracer_object(lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)], declare=one)
    (param,) = [p for p in spec_of(raw).params if p.variable]
    (flag,) = param_flags([param])
    assert checked(flag, "false") == "false"
    with pytest.raises(UsageError, match="--collect-otel-stack: this version cannot read"):
        checked(flag, "true")


def test_well_known_variables() -> None:
    pid = params_of()["targ_pid"]
    assert (pid.key, pid.title, pid.tags) == ("pid", "Process ID", ["group:Process"])
    assert pid.full_name == "operator.oci.ebpf.pid"


def test_metadata_names_and_describes() -> None:
    ebpf = {
        "Limit": {"key": "max", "description": "At most", "defaultValue": "3"},
        "word": {"defaultValue": "bye"},
    }
    found = params_of({"params": {"ebpf": ebpf}})
    assert (found["limit"].key, found["limit"].description) == ("max", "At most")
    # The object's own value wins, except for texts.
    assert found["limit"].default == "-9"
    assert found["word"].default == "bye"


def test_the_older_place_in_the_metadata() -> None:
    assert params_of({"ebpfParams": {"limit": {"key": "max"}}})["limit"].key == "max"


def test_param_defaults_by_full_name_in_any_case() -> None:
    params = list(params_of().values())
    metadata = Metadata({"paramDefaults": {"operator.OCI.ebpf.Limit": 12}})
    apply_param_defaults(params, metadata)
    assert {p.variable: p.default for p in params}["limit"] == "12"


def test_two_params_of_one_name() -> None:
    with pytest.raises(MetadataError, match="'same' is declared twice"):
        params_of({"params": {"ebpf": {"limit": {"key": "same"}, "on": {"key": "same"}}}})


@pytest.mark.parametrize(
    ("section", "content", "default"), [(".data", b"\x07\0\0\0", "7"), (".bss", 4, "0")]
)
def test_a_param_that_is_not_const_is_noted(
    section: str, content: bytes | int, default: str
) -> None:
    """`ig` sets such a variable too."""

    def declare_global(btf: BtfWriter, elf: ElfWriter) -> None:
        btf.variable("v", btf.integer("int", 4, SIGNED))
        btf.marker("gadget_param_v")
        elf.variable("v", section, content)

    spec = spec_of(tracer_object(lambda btf: [], declare=declare_global))
    [param] = [p for p in spec.params if p.variable == "v"]
    assert (param.key, param.default, param.type_hint) == ("v", default, "int32")
    assert ["'v' is not const" in note for note in spec.notes] == [True]


def test_a_param_must_be_a_variable() -> None:
    def declare_type_only(btf: BtfWriter, elf: ElfWriter) -> None:
        btf.variable("v", btf.integer("int", 4, SIGNED))
        btf.marker("gadget_param_v")

    with pytest.raises(ObjectError, match="'v' is not a global variable"):
        spec_of(tracer_object(lambda btf: [], declare=declare_type_only))


@pytest.mark.parametrize(
    ("variable", "text", "raw"),
    [
        ("targ_pid", "7", struct.pack("<I", 7)),
        ("targ_pid", "0x10", struct.pack("<I", 16)),
        ("targ_pid", "007", struct.pack("<I", 7)),
        ("limit", "-1", b"\xff" * 8),
        ("on", "FALSE", b"\0"),
        ("ratio", "1.5", struct.pack("<f", 1.5)),
        ("color", "RED", struct.pack("<I", 1)),
        ("color", "9", struct.pack("<I", 9)),
        ("addr", "127.0.0.1", b"\x7f\0\0\1" + bytes(12) + b"\4" + bytes(15)),
        ("addr", "::1", bytes(15) + b"\1\6" + bytes(15)),
        ("word", "", bytes(8)),
        ("word", "12345678", b"12345678"),
        ("word", "é", "é".encode() + bytes(6)),
    ],
)
def test_values_as_bytes(variable: str, text: str, raw: bytes) -> None:
    assert encode_param(params_of()[variable], text) == raw


@pytest.mark.parametrize(
    ("variable", "text", "why"),
    [
        ("targ_pid", "abc", "not an integer"),
        ("targ_pid", "", "not an integer"),
        ("targ_pid", " 1", "not an integer"),
        ("targ_pid", "1_000", "not an integer"),
        ("targ_pid", "١", "not an integer"),
        ("targ_pid", "-1", "out of range for uint32"),
        ("targ_pid", "4294967296", "out of range for uint32"),
        ("targ_pid", "9" * 5000, "not an integer"),
        ("limit", "9223372036854775808", "out of range for int64"),
        ("on", "yes", "expected true or false"),
        ("ratio", "much", "not a number"),
        ("ratio", "1e300", "out of range for float32"),
        ("color", "PINK", "must be a number or one of RED, BLUE"),
        ("color", "-1", "out of range"),
        ("addr", "1.2.3", "not an IP address"),
        ("word", "123456789", "too long: 9 > 8"),
    ],
)
def test_wrong_values_are_told(variable: str, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        encode_param(params_of()[variable], text)


def test_values_of_other_params() -> None:
    check_value(ParamSpec("d", type_hint="duration"), "1h30m")
    check_value(ParamSpec("p", possible_values=["a", "b"]), "A")
    with pytest.raises(UsageError, match="not a duration"):
        check_value(ParamSpec("d", type_hint="duration"), "soon")
    with pytest.raises(UsageError, match="must be one of a, b"):
        check_value(ParamSpec("p", possible_values=["a", "b"]), "c")


def test_custom_params() -> None:
    custom = {
        "Mode": {"description": "How", "values": {"Fast": {"patch": {}}, "slow": {"patch": {}}}},
        "ignored": {"description": "neither values nor patch"},
    }
    raw = tracer_object(lambda btf: [])
    [param] = spec_of(raw, {"params": {"custom": custom}}).params
    assert (param.full_name, param.possible_values) == ("custom.mode", ["fast", "slow"])


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("a", ["a"]),
        ("a,b,", ["a", "b"]),
        ("a,,b", ["a", "", "b"]),
        (r"a\,b,c\\", ["a,b", "c\\"]),
        (r"\x", [r"\x"]),
        ("a\\", ["a\\"]),
    ],
)
def test_lists(text: str, items: list[str]) -> None:
    assert split_list(text) == items
