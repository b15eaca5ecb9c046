"""Markers: what each declares, and what is said of wrong ones."""

from __future__ import annotations

import pytest
from support.elf_writer import BtfWriter

from ig_py.errors import ObjectError
from ig_py.gadget.btf import Btf
from ig_py.gadget.maps import HASH, RINGBUF, SOCKHASH, read_maps
from ig_py.gadget.markers import Markers, read_markers

PROGRAMS = {"walk": "iter/task", "elem": "iter/bpf_map_elem", "trace": "raw_tp/x", "skb": "sk_skb"}


def btf_with(*markers: str) -> BtfWriter:
    btf = BtfWriter()
    u32 = btf.integer("unsigned int", 4)
    struct = btf.struct("event", 4, [("a", u32, 0)])
    other = btf.struct("stats", 4, [("n", u32, 0)])
    btf.map("events", RINGBUF)
    btf.map("counts", HASH, key=struct, value=other)
    btf.map("flat", HASH, key=u32, value=u32)
    btf.map("lru", 9, key=struct, value=other)
    btf.map("socks", SOCKHASH, key=u32, value=u32)
    btf.variable("limit", btf.const(btf.volatile(u32)))
    btf.maps()
    for marker in markers:
        btf.marker(marker)
    return btf


def markers_of(*names: str) -> Markers:
    btf = Btf(btf_with(*names).write(), "x")
    return read_markers(btf, read_maps(btf), PROGRAMS)


def test_every_marker() -> None:
    found = markers_of(
        "gadget_tracer_t___events___event",
        "gadget_iter_i___event___walk___elem",
        "gadget_mapiter_m___counts",
        "gadget_param_limit",
        "gadget_map_tracer_events",
        "gadget_mapelem_iter_target_elem___counts",
        "gadget_sk_prog_target_skb___socks",
    )
    assert [(t.name, t.map, t.struct.name) for t in found.tracers] == [("t", "events", "event")]
    assert [(i.name, i.programs) for i in found.iterators] == [("i", ("walk", "elem"))]
    assert [(m.name, m.key.name, m.value.name) for m in found.map_iterators] == [
        ("m", "event", "stats")
    ]
    assert [p.name for p in found.params] == ["limit"]
    assert found.tracer_maps == ["events"]
    assert found.targets == {"elem": "counts", "skb": "socks"}


def test_names_may_hold_two_underscores() -> None:
    btf = btf_with()
    btf.struct("a__b", 4, [])
    btf.marker("gadget_tracer_x__y___events___a__b")
    parsed = Btf(btf.write())
    [tracer] = read_markers(parsed, read_maps(parsed), {}).tracers
    assert (tracer.name, tracer.struct.name) == ("x__y", "a__b")


def test_the_older_prefix_is_told() -> None:
    found = markers_of("gadget_snapshotter_s___event___walk")
    assert [i.name for i in found.iterators] == ["s"]
    assert "deprecated" in found.notes[0]


def test_a_variable_of_another_type_is_no_marker() -> None:
    btf = btf_with()
    btf.variable("gadget_tracer_nonsense", btf.integer("int", 4))
    btf.variable("gadget_iter_x", btf.pointer(0))
    btf.variable("gadget_mapiter_x", btf.pointer(btf.const(0)), linkage=0)
    parsed = Btf(btf.write())
    assert read_markers(parsed, read_maps(parsed), {}) == Markers()


@pytest.mark.parametrize(
    ("marker", "why"),
    [
        ("gadget_tracer_x___events", "expected the form NAME___MAP___STRUCT"),
        ("gadget_tracer____events___event", "expected the form"),
        ("gadget_tracer_x___zz___event", "names map 'zz'"),
        ("gadget_tracer_x___counts___event", "is a Hash, expected a ring buffer"),
        ("gadget_tracer_x___events___zz", "names struct 'zz'"),
        ("gadget_iter_x___event", "expected the form"),
        ("gadget_iter_x___event___zz", "names program 'zz'"),
        ("gadget_iter_x___event___trace", "in section 'raw_tp/x', not iter"),
        ("gadget_mapiter_x", "expected the form NAME___MAP"),
        ("gadget_mapiter_x___zz", "names map 'zz'"),
        ("gadget_mapiter_x___lru", "is a LRUHash, expected a Hash"),
        ("gadget_mapiter_x___flat", "the key of map 'flat' is no struct"),
        ("gadget_param_zz", "names variable 'zz'"),
        ("gadget_param_", "names variable ''"),
        ("gadget_map_tracer_zz", "names map 'zz'"),
        ("gadget_mapelem_iter_target_walk___counts", "not iter/bpf_map_elem"),
        ("gadget_mapelem_iter_target_elem___zz", "names map 'zz'"),
        ("gadget_sk_prog_target_trace___socks", "not sk_skb or sk_msg"),
        ("gadget_sk_prog_target_skb___counts", "neither a sockmap nor a sockhash"),
    ],
)
def test_a_marker_that_names_nothing(marker: str, why: str) -> None:
    with pytest.raises(ObjectError, match=why) as raised:
        markers_of(marker)
    assert marker in str(raised.value)


def test_a_data_source_is_declared_once() -> None:
    with pytest.raises(ObjectError, match="already declared"):
        markers_of("gadget_tracer_x___events___event", "gadget_mapiter_x___counts")


def test_a_program_has_one_target() -> None:
    with pytest.raises(ObjectError, match="already has a target"):
        markers_of(
            "gadget_mapelem_iter_target_elem___counts", "gadget_mapelem_iter_target_elem___flat"
        )
