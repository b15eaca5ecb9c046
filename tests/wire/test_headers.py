"""build/include/gadget: the interface of programs and user space, compiled by each clang."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from support.compilers import clang_params, compile_with, each_clang, require_release

from ig_py._core import Object
from ig_py.errors import BuildError
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import BtfKind
from ig_py.gadget.elf import Elf
from ig_py.toolchain.checks import LINKAGE_GLOBAL
from ig_py.toolchain.clang import Clang
from ig_py.toolchain.compile import ARCHITECTURES

pytestmark = [
    pytest.mark.needs("clang"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for amd64"),
]

DATA = Path(__file__).parent / "data" / "headers"
API = Path(__file__).parents[2] / "build" / "include" / "gadget"

HASH, ARRAY, PROG_ARRAY, PERCPU_ARRAY, STACK_TRACE, LRU_HASH, RINGBUF = 1, 2, 3, 6, 7, 9, 27
MAPS = {
    "gadget_mntns_filter_map": (HASH, 8, 4, 1024),
    "gadget_heap": (PERCPU_ARRAY, 4, 10240, 1),
    "events": (RINGBUF, 0, 0, 256 * 1024),
    "events_lost_samples": (PERCPU_ARRAY, 4, 8, 1),
    "bufs": (PERCPU_ARRAY, 4, 32768, 1),
    "ig_kstack": (STACK_TRACE, 4, 127 * 8, 10000),
    "ig_ustack": (STACK_TRACE, 4, 127 * 8, 10000),
    "ig_build_id": (HASH, 4, 127 * 32, 0),
    "otel_generic_params": (PERCPU_ARRAY, 4, 8, 1),
    "otel_tc_kprobe": (PROG_ARRAY, 4, 4, 1),
    "otel_tc_perf": (PROG_ARRAY, 4, 4, 1),
    "gadget_sockets": (HASH, 12, 8280, 16384),
    "gpu_meta": (ARRAY, 4, 32, 1),
    "gpu_device": (ARRAY, 4, 128, 16),
    "gpu_per_pid": (LRU_HASH, 4, 32, 4096),
    "gpu_per_pid_per_device": (LRU_HASH, 8, 40, 4096),
}
MARKERS = {
    "gadget_tracer_things___events___after_u32",
    "gadget_map_tracer_events",
    *(f"gadget_param_targ_{name}" for name in ("pid", "tid", "uid", "gid", "comm")),
    *(f"gadget_param_collect_{name}" for name in ("ustack", "build_id", "otel_stack")),
    "gadget_param_ig_build_id_max_entries",
}
PROGRAMS_ALONE = """\
#include <{types}>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <gadget/{header}>
"""
FOR_MODULES = {"wasm.h"}
"""For wasm modules, not for programs (tests/gadgets/wasm_guest)."""
WITHOUT_VMLINUX = {
    "buffer.h",
    "compiler.h",
    "fairness.h",
    "gpu_bridge_maps.h",
    "gpu_types.h",
    "macros.h",
    "maps.bpf.h",
    "packetfilter.h",
    "sockets-map.h",
    "types.h",
}


@pytest.fixture(scope="module", params=clang_params())
def clang(request: pytest.FixtureRequest) -> Clang:
    return require_release(request.param)


@pytest.fixture(scope="module")
def layouts(clang: Clang, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("layouts") / "o"
    assert compile_with(clang, DATA / "layouts.bpf.c", out) == ""
    return out.read_bytes()


def test_maps(layouts: bytes) -> None:
    obj = Object(layouts, "layouts")
    found = {
        m["name"]: (m["type"], m["key_size"], m["value_size"], m["max_entries"])
        for m in obj.maps()
        if not m["name"].startswith(".")
    }
    obj.close()
    assert found == MAPS


def test_markers_are_global_and_of_one_type(layouts: bytes) -> None:
    elf = Elf(layouts, "layouts")
    section = elf.section(".BTF")
    assert section is not None
    btf = Btf(elf.data(section))
    markers = {
        variable.name: variable
        for variable in btf.of_kind(BtfKind.VAR)
        if variable.name.startswith(("gadget_param_", "gadget_tracer_", "gadget_map_tracer_"))
    }
    assert markers.keys() == MARKERS
    for variable in markers.values():
        pointer = btf.type(variable.ref)
        const = btf.type(pointer.ref)
        assert variable.linkage == LINKAGE_GLOBAL
        assert (pointer.kind, const.kind, const.ref) == (BtfKind.PTR, BtfKind.CONST, 0)


def test_packet_programs_do_without_vmlinux(clang: Clang, tmp_path: Path) -> None:
    out = tmp_path / "o"
    assert compile_with(clang, DATA / "without_vmlinux.bpf.c", out) == ""
    elf = Elf(out.read_bytes(), "packets")
    assert {"gadget_pf_second", "on_packet", "on_ingress"} <= {s.name for s in elf.symbols}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_layouts_are_those_of_every_architecture(tmp_path: Path, arch: str) -> None:
    newest = each_clang()[-1]
    assert compile_with(newest, DATA / "layouts.bpf.c", tmp_path / "o", arch) == ""


@pytest.mark.parametrize("header", sorted({path.name for path in API.glob("*.h")} - FOR_MODULES))
def test_a_header_needs_no_other_before_it(header: str, tmp_path: Path) -> None:
    source = tmp_path / "program.bpf.c"
    types = ["vmlinux.h"]
    if header in WITHOUT_VMLINUX:
        types.append("linux/bpf.h")
    for include in types:
        source.write_text(PROGRAMS_ALONE.format(types=include, header=header))
        assert compile_with(each_clang()[0], source, tmp_path / "o") == ""


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("gadget_pf_matches(a, b);", r"gadget_pf_matches\(\[name,\] skb, data, data_end\)"),
    ],
)
def test_misuse_is_refused(code: str, why: str, tmp_path: Path) -> None:
    source = tmp_path / "program.bpf.c"
    source.write_text(
        "#include <vmlinux.h>\n#include <gadget/user_stack_map.h>\n"
        f"#include <gadget/packetfilter.h>\nvoid f(struct gadget_user_stack stack) {{ {code} }}\n"
    )
    with pytest.raises(BuildError) as refused:
        compile_with(each_clang()[0], source, tmp_path / "o")
    assert refused.match(why)


def test_sockets_map_wants_types_first(tmp_path: Path) -> None:
    source = tmp_path / "program.bpf.c"
    source.write_text("#include <gadget/sockets-map.h>\n")
    with pytest.raises(BuildError, match=r"include vmlinux\.h or linux/types\.h before"):
        compile_with(each_clang()[0], source, tmp_path / "o")
