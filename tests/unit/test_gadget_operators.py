"""Formatted fields that operators declare: names, order, visibility, steps that fill them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from support.elf_writer import SIGNED, BtfWriter, ElfWriter
from support.gadget_objects import Members, spec_of, tracer_object
from support.live_run import running
from support.waiting import wait_for

from ig_py.errors import ContainerError
from ig_py.gadget.spec import DataSourceSpec, FieldSpec, Flag, GadgetSpec
from ig_py.gadget.templates import BASE
from ig_py.host.file_changes import FileChanges
from ig_py.host.proc import HostView
from ig_py.operators import ebpf_enum, instances, instantiate_all, uid_gid_resolver
from ig_py.operators.base import Context, Operator
from ig_py.operators.ebpf_enum import EbpfEnum
from ig_py.operators.formatters import Formatters
from ig_py.operators.local_manager import LocalManager
from ig_py.operators.parts import LoadParts
from ig_py.operators.running import Host
from ig_py.operators.uid_gid_resolver import UidGidResolver, parse_names

FieldConfig = dict[str, dict[str, Any]]


def typed(btf: BtfWriter, name: str, size: int = 4, encoding: int = 0) -> int:
    base = btf.integer({4: "unsigned int", 8: "unsigned long"}[size], size, encoding)
    return btf.typedef(name, base)


def run(
    operator: Operator, members: Any, fields: dict[str, dict[str, str]] | None = None
) -> tuple[DataSourceSpec, Context, bool]:
    config = {name: {"annotations": a} for name, a in (fields or {}).items()}
    spec = spec_of(tracer_object(members, size=128), {"datasources": {"ds": {"fields": config}}})
    ctx = Context(spec)
    active = operator.instantiate(ctx)
    return spec.datasources[0], ctx, active


def get(ds: DataSourceSpec, name: str) -> FieldSpec:
    field = ds.field(name)
    assert field is not None, name
    return field


def bodies(ctx: Context) -> list[dict[str, Any]]:
    return [step.body for step in ctx.plan.steps.get("ds", [])]


NUMBERS = [
    ("gadget_signal", 4, "signal"),
    ("gadget_errno", 4, "errno"),
    ("gadget_syscall", 8, "syscall"),
    ("gadget_timestamp", 8, "timestamp"),
    ("gadget_bytes", 8, "bytes"),
    ("gadget_duration", 8, "duration"),
    ("gadget_file_mode", 4, "file_mode"),
    ("gadget_file_flags", 4, "file_flags"),
]


@pytest.mark.parametrize(("type_name", "size", "op"), NUMBERS)
def test_number_gets_a_string_beside_it(type_name: str, size: int, op: str) -> None:
    ds, ctx, active = run(Formatters(), lambda btf: [("x_raw", typed(btf, type_name, size), 0)])
    assert active
    raw, formatted = get(ds, "x_raw"), get(ds, "x")
    assert raw.hidden
    [body] = bodies(ctx)
    assert (body["op"], body["src"], body["dst"]) == (op, raw.index, formatted.index)
    assert formatted.hidden == (op == "timestamp")


@pytest.mark.parametrize(("type_name", "size", "op"), NUMBERS)
def test_target_by_annotation(type_name: str, size: int, op: str) -> None:
    ds, _, _ = run(
        Formatters(),
        lambda btf: [("x", typed(btf, type_name, size), 0)],
        {"x": {f"formatters.{op}.target": "shown"}},
    )
    assert get(ds, "shown").annotations


@pytest.mark.parametrize(("type_name", "size", "op"), NUMBERS)
def test_no_name_no_twin(type_name: str, size: int, op: str) -> None:
    ds, _, active = run(Formatters(), lambda btf: [("x", typed(btf, type_name, size), 0)])
    assert not active
    assert len(ds.fields) == 1
    assert not op or get(ds, "x").hidden == (type_name == "gadget_timestamp")


def test_wrong_size_no_twin() -> None:
    _, _, active = run(Formatters(), lambda btf: [("x_raw", typed(btf, "gadget_errno", 8), 0)])
    assert not active


def test_source_stays_visible_when_its_annotation_says_so() -> None:
    ds, _, _ = run(
        Formatters(),
        lambda btf: [("x_raw", typed(btf, "gadget_errno"), 0)],
        {"x_raw": {"columns.hidden": "false"}},
    )
    assert not get(ds, "x_raw").hidden


def test_layout_of_times() -> None:
    _, ctx, _ = run(
        Formatters(),
        lambda btf: [("x_raw", typed(btf, "gadget_timestamp", 8), 0)],
        {"x_raw": {"formatters.timestamp.format": "15:04:05"}},
    )
    assert bodies(ctx)[0]["layout"] == "15:04:05"


def test_order_of_twins() -> None:
    def members(btf: BtfWriter) -> Members:
        names = ["file_flags", "duration", "bytes", "timestamp", "syscall", "errno", "signal"]
        sizes = {4: ("file_flags", "errno", "signal")}
        return [
            (f"{n}_raw", typed(btf, f"gadget_{n}", 4 if n in sizes[4] else 8), 64 * i)
            for i, n in enumerate(names)
        ]

    ds, _, _ = run(Formatters(), members)
    names = [f.name for f in ds.fields[7:]]
    assert names == [
        "signal",
        "errno",
        "syscall",
        "timestamp",
        "bytes",
        "duration",
        "file_flags",
    ]


def test_a_twin_never_shadows_a_field() -> None:
    ds, _, active = run(
        Formatters(),
        lambda btf: [("x_raw", typed(btf, "gadget_errno"), 0), ("x", typed(btf, "t"), 32)],
    )
    assert not active
    assert "'x' exists" in ds.notes[0]


def test_a_system_call_is_as_wide_as_any_field() -> None:
    # There is a template of that name, but only gadget.yaml applies it.
    ds, _, _ = run(Formatters(), lambda btf: [("syscall_raw", typed(btf, "gadget_syscall", 8), 0)])
    assert get(ds, "syscall").annotations == dict(BASE)


def endpoint(btf: BtfWriter, l4: bool) -> int:
    byte = btf.integer("unsigned char", 1)
    short = btf.integer("unsigned short", 2)
    address = btf.struct("gadget_ip_addr_t", 16, [("v6", btf.array(byte, 16), 0)], union=True)
    if not l4:
        return btf.struct(
            "gadget_l3endpoint_t", 32, [("addr_raw", address, 0), ("version", byte, 128)]
        )
    return btf.struct(
        "gadget_l4endpoint_t",
        32,
        [
            ("addr_raw", address, 0),
            ("port", short, 128),
            ("proto_raw", short, 144),
            ("version", byte, 160),
        ],
    )


def test_l3_endpoint() -> None:
    ds, ctx, _ = run(Formatters(), lambda btf: [("src", endpoint(btf, False), 0)])
    source, address, raw = get(ds, "src"), get(ds, "src.addr"), get(ds, "src.addr_raw")
    assert not source.hidden
    assert source.annotations["columns.replace"] == "src.addr"
    below = [f for f in ds.fields if f.parent == raw.index]
    assert below and all(f.flags & Flag.UNREFERENCED for f in (raw, *below))
    assert get(ds, "src.version").hidden
    assert bodies(ctx) == [
        {
            "op": "l3endpoint",
            "version": get(ds, "src.version").index,
            "addr_raw": raw.index,
            "addr": address.index,
        }
    ]


def test_l4_endpoint() -> None:
    ds, ctx, _ = run(Formatters(), lambda btf: [("dst", endpoint(btf, True), 0)])
    text = get(ds, "dst.endpoint")
    assert (text.annotations, text.tags, text.hidden) == (
        {"json.skip": "true"},
        ["endpoint"],
        True,
    )
    assert get(ds, "dst").annotations["columns.replace"] == "dst.endpoint"
    [step] = ctx.plan.steps["ds"]
    assert step.priority == 1
    assert step.body == {
        "op": "l4endpoint",
        **{
            name: get(ds, f"dst.{name}").index
            for name in ("version", "addr_raw", "addr", "port", "proto_raw", "proto", "endpoint")
        },
    }


def test_l4_endpoint_without_a_protocol() -> None:
    def members(btf: BtfWriter) -> Members:
        byte, short = btf.integer("unsigned char", 1), btf.integer("unsigned short", 2)
        v6 = [("v6", btf.array(byte, 16), 0)]
        address = btf.struct("gadget_ip_addr_t", 16, v6, union=True)
        parts = [("addr_raw", address, 0), ("port", short, 128), ("version", byte, 144)]
        return [("dst", btf.struct("gadget_l4endpoint_t", 20, parts), 0)]

    ds, ctx, active = run(Formatters(), members)
    assert active
    assert ds.notes == []
    assert ds.exact("dst.proto") is None
    [step] = ctx.plan.steps["ds"]
    assert (step.body["proto_raw"], step.body["proto"]) == (None, None)
    assert step.body["endpoint"] == get(ds, "dst.endpoint").index


def test_endpoint_of_another_shape_is_left_alone() -> None:
    def members(btf: BtfWriter) -> Members:
        byte = btf.integer("unsigned char", 1)
        return [("src", btf.struct("gadget_l3endpoint_t", 4, [("version", byte, 0)]), 0)]

    ds, _, active = run(Formatters(), members)
    assert not active
    assert "members of an endpoint" in ds.notes[0]


@pytest.mark.parametrize("names", [("runtime",), ("k8s",), ("runtime", "k8s"), ("Runtime",)])
def test_an_events_own_field_stays_where_container_fields_would_be(names: tuple[str, ...]) -> None:
    def members(btf: BtfWriter) -> Members:
        ids = [("mntns_id", typed(btf, "gadget_mntns_id", 8), 0)]
        return ids + [(name, typed(btf, "t"), 64 + 32 * n) for n, name in enumerate(names)]

    ds, ctx, active = run(LocalManager(), members)
    assert active
    taken = {"runtime", "k8s"} & set(names)
    for group in ("runtime", "k8s"):
        own = get(ds, group)
        assert (own.size == 4) == (group in taken)
        assert (ds.exact(f"{group}.containerName") is None) == (group in taken)
        assert any(f"own field {group!r}" in note for note in ds.notes) == (group in taken)
    [step] = bodies(ctx)
    assert {name.partition(".")[0] for name in step["fields"]} == {"runtime", "k8s"} - taken


def color(btf: BtfWriter, name: str = "color") -> int:
    return btf.enum(name, 4, [("RED", 1), ("GREEN", 2)], signed=False)


def test_enum_names() -> None:
    ds, ctx, active = run(EbpfEnum(), lambda btf: [("c_raw", color(btf), 0)])
    assert active
    assert get(ds, "c_raw").hidden
    assert not get(ds, "c").hidden
    assert bodies(ctx) == [
        {
            "op": "enum",
            "src": 0,
            "dst": 1,
            "values": [[1, "RED"], [2, "GREEN"]],
            "set": False,
            "separator": "|",
        }
    ]


def test_enum_sets_and_annotations() -> None:
    ds, ctx, _ = run(
        EbpfEnum(),
        lambda btf: [("c", color(btf, "color_set"), 0)],
        {"c": {"ebpf.formatter.enum": "colors", "ebpf.formatter.bitfield.separator": ","}},
    )
    [body] = bodies(ctx)
    assert (body["set"], body["separator"]) == (True, ",")
    assert get(ds, "colors").name == "colors"


def test_enum_without_a_name_for_its_twin_is_a_hidden_number() -> None:
    ds, _, active = run(EbpfEnum(), lambda btf: [("c", color(btf), 0)])
    assert not active
    assert get(ds, "c").hidden
    assert "is a number" in ds.notes[0] and "no column" in ds.notes[0]


@pytest.mark.parametrize(
    ("type_name", "size", "hidden"),
    [
        ("color", 4, True),
        ("gadget_kernel_stack", 4, True),
        ("gadget_uid", 4, True),
        ("gadget_gid", 4, True),
        ("gadget_mntns_id", 8, True),
        ("gadget_netns_id", 8, True),
        ("gadget_signal", 4, False),
        ("gadget_errno", 4, False),
        ("gadget_syscall", 8, False),
        ("gadget_timestamp", 8, True),
        ("gadget_bytes", 8, False),
        ("gadget_duration", 8, False),
        ("gadget_file_mode", 4, False),
        ("gadget_file_flags", 4, False),
        ("gadget_pid", 4, False),
        ("gadget_tid", 4, False),
        ("gadget_ppid", 4, True),
    ],
)
def test_which_numbers_are_hidden_as_in_ig(type_name: str, size: int, hidden: bool) -> None:
    """*hidden*: of a field whose name lacks ``_raw``; with it, all that get a text are hidden.

    Flags that `ig` (1.6.x, ``image inspect --show-datasources``) gives.
    """

    def declare(btf: BtfWriter, elf: ElfWriter) -> None:
        btf.map("ig_kstack", 7, entries=1)
        elf.map("ig_kstack")

    def flags(name: str) -> int:
        def members(btf: BtfWriter) -> Members:
            kind = color(btf) if type_name == "color" else typed(btf, type_name, size)
            return [(name, kind, 0)]

        spec = spec_of(tracer_object(members, declare=declare))
        instantiate_all(Context(spec))
        return int(get(spec.datasources[0], name).flags)

    assert flags("f") == (Flag.STATIC_MEMBER | Flag.HIDDEN if hidden else Flag.STATIC_MEMBER)
    untouched = type_name in ("gadget_pid", "gadget_tid")
    assert flags("f_raw") == (Flag.STATIC_MEMBER if untouched else 20)


def test_the_kernels_enum_values_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = BtfWriter()
    kernel.enum("color", 4, [("BLUE", 1)], signed=False)
    blob = tmp_path / "vmlinux"
    blob.write_bytes(kernel.write())
    monkeypatch.setattr(ebpf_enum, "KERNEL_BTF", blob)
    operator = EbpfEnum()
    _, ctx, _ = run(operator, lambda btf: [("c_raw", color(btf), 0)])
    operator.pre_start(ctx, LoadParts(), Host(HostView()))
    assert bodies(ctx)[0]["values"] == [[1, "BLUE"]]


def test_without_kernel_btf_the_objects_values_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ebpf_enum, "KERNEL_BTF", tmp_path / "none")
    operator = EbpfEnum()
    _, ctx, _ = run(operator, lambda btf: [("c_raw", color(btf), 0)])
    operator.pre_start(ctx, LoadParts(), Host(HostView()))
    assert bodies(ctx)[0]["values"] == [[1, "RED"], [2, "GREEN"]]


def test_users_and_groups() -> None:
    def members(btf: BtfWriter) -> Members:
        return [
            ("gid", typed(btf, "gadget_gid"), 0),
            ("uid", typed(btf, "gadget_uid"), 32),
            ("login_raw", typed(btf, "gadget_uid"), 64),
            ("owner", typed(btf, "gadget_uid"), 96),
        ]

    ds, ctx, _ = run(UidGidResolver(), members, {"owner": {"uidgidresolver.target": "boss"}})
    assert [f.name for f in ds.fields[4:]] == ["user", "login", "boss", "group"]
    assert all(f.hidden for f in ds.fields)
    assert [(b["op"], b["src"], b["dst"]) for b in bodies(ctx)] == [
        ("user", 1, 4),
        ("user", 2, 5),
        ("user", 3, 6),
        ("group", 0, 7),
    ]


class _Names:
    """Takes the place of a stream: remembers the names."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[int, str], dict[int, str]]] = []

    def set_names(self, users: dict[int, str], groups: dict[int, str]) -> None:
        self.seen.append((users, groups))


def etc(root: Path, **files: bytes) -> Path:
    (root / "etc").mkdir(exist_ok=True)
    for name, content in files.items():
        (root / "etc" / name).write_bytes(content)
    return root


def names_of(root: Path) -> list[tuple[dict[int, str], dict[int, str]]]:
    operator, stream = UidGidResolver(), _Names()
    operator.start(Context(GadgetSpec("x", {})), running(stream, view=HostView(str(root))))
    operator.stop()
    return stream.seen


def test_names_are_read_at_start(tmp_path: Path) -> None:
    passwd = b"root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:\nbad\nx:y:z\n:x:5:\n\xff:x:7:7\n"
    assert names_of(etc(tmp_path, passwd=passwd)) == [({0: "root", 7: "�"}, {})]


def test_names_are_those_below_host_root(tmp_path: Path) -> None:
    """Links are followed below the host's root, not below this process's own."""
    etc(tmp_path, passwd=b"hostuser:x:4242:1::/:\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/group").write_bytes(b"hostgroup:x:4343:\n")
    (tmp_path / "etc/group").symlink_to("/run/group")
    assert names_of(tmp_path) == [({4242: "hostuser"}, {4343: "hostgroup"})]


def test_a_names_file_that_is_no_file_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    etc(tmp_path, group=b"g:x:1:\n")
    os.mkfifo(tmp_path / "etc/passwd")
    assert names_of(tmp_path) == [({}, {1: "g"})]
    assert "etc/passwd" in caplog.text


@pytest.mark.parametrize("inotify", [True, False])
def test_changed_names_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inotify: bool
) -> None:
    def refused() -> FileChanges:
        raise OSError(errno.EMFILE, "too many instances")

    if not inotify:
        monkeypatch.setattr(uid_gid_resolver, "FileChanges", refused)
        monkeypatch.setattr(uid_gid_resolver, "POLL_SECONDS", 0.01)
    etc(tmp_path, passwd=b"a:x:1:1::/:\n", group=b"g:x:1:\n")
    operator, stream = UidGidResolver(), _Names()
    operator.start(Context(GadgetSpec("x", {})), running(stream, view=HostView(str(tmp_path))))
    try:
        # As useradd(8) does it.
        (tmp_path / "etc/passwd+").write_bytes(b"a:x:1:1::/:\nb:x:2:2::/:\n")
        (tmp_path / "etc/passwd+").rename(tmp_path / "etc/passwd")
        wait_for(lambda: len(stream.seen) > 1, "names")
        (tmp_path / "etc/group").unlink()
        wait_for(lambda: len(stream.seen) > 2, "names")
    finally:
        operator.stop()
    assert stream.seen[1:] == [({1: "a", 2: "b"}, {1: "g"}), ({1: "a", 2: "b"}, {})]


def test_names_behind_a_link_are_read_again(tmp_path: Path) -> None:
    etc(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/passwd").write_bytes(b"a:x:1:1::/:\n")
    (tmp_path / "etc/passwd").symlink_to("/run/passwd")
    operator, stream = UidGidResolver(), _Names()
    operator.start(Context(GadgetSpec("x", {})), running(stream, view=HostView(str(tmp_path))))
    try:
        with (tmp_path / "run/passwd").open("ab") as file:
            file.write(b"b:x:2:2::/:\n")
        wait_for(lambda: len(stream.seen) > 1, "names")
    finally:
        operator.stop()
    assert stream.seen[-1] == ({1: "a", 2: "b"}, {})


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a:x:99999999999:\nb:x:4294967295:\nc:x:4294967296:\n", {4294967295: "b"}),
        (b" \tblank:x:1:1::/:\n\t\n", {1: "blank"}),
        (b"#old:x:1:1::/:\n # older:x:1:\nnew:x:1:1::/:\n", {1: "new"}),
        (b"+nis:x:1:\n-nis:x:2:\n+::::::\n", {}),
        (b"a:x: 1:\nb:x:+1:\nc:x:0x1:\nd:x:01:\n", {1: "d"}),
    ],
)
def test_lines_of_passwd(content: bytes, names: dict[int, str]) -> None:
    assert parse_names(content) == names


def test_without_kubernetes_a_gadget_of_network_policies_is_refused() -> None:
    raw = tracer_object(lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)])

    def active(value: str) -> list[Operator]:
        annotations = {"generate_networkpolicy.enable": value}
        spec = spec_of(raw, {"datasources": {"ds": {"annotations": annotations}}})
        found = instantiate_all(Context(spec))
        return [op for op in found if op.name == "GenerateNetworkPolicy"]

    assert active("false") == []
    (operator,) = active("true")
    ctx = Context(GadgetSpec("policies", {}))
    with pytest.raises(ContainerError, match=r"'policies'.*'ds'.*no access to Kubernetes"):
        operator.pre_start(ctx, LoadParts(), Host(HostView()))


@pytest.mark.parametrize(("value", "told"), [("true", True), ("false", False)])
def test_addresses_of_pods_are_missing_with_a_word(value: str, told: bool) -> None:
    raw = tracer_object(lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)])
    annotations = {"kubenameresolver.enable": value}
    spec = spec_of(raw, {"datasources": {"ds": {"annotations": annotations}}})
    instantiate_all(Context(spec))
    notes = [n for n in spec.datasources[0].notes if "k8s.podIP and k8s.hostIP are missing" in n]
    assert bool(notes) == told


def test_operators_come_in_order() -> None:
    found = [(op.priority, op.name) for op in instances()]
    assert found == sorted(found)
    assert [name for _, name in found] == [
        "ebpf",
        "kstack",
        "process",
        "trace_pipe",
        "wasm",
        "cgroup",
        "LocalManager",
        "ebpf",
        "formatters",
        "UidGidResolver",
        "SocketEnricher",
        "ustack",
        "env",
        "filter",
        "GenerateNetworkPolicy",
        "sort",
        "limiter",
        "otel-metrics",
    ]


def test_param_defaults_reach_params_of_operators() -> None:
    raw = tracer_object(lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)])
    spec = spec_of(raw, {"paramDefaults": {"operator.filter.filter": "a==1"}})
    instantiate_all(Context(spec))
    assert {p.full_name: p.default for p in spec.params}["operator.filter.filter"] == "a==1"
