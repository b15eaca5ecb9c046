"""Filters are put into real objects, and damaged ones are refused in words."""

from __future__ import annotations

import random

import pytest
from support.gadget_build import gadget_object

from ig_py.errors import IgPyError, LimitError
from ig_py.gadget import packet_filters
from ig_py.gadget.elf import STT_FUNC, Elf
from ig_py.gadget.packet_filters import filter_functions, filter_params
from ig_py.packetfilter import filtered
from ig_py.packetfilter.insertion import inserted
from ig_py.packetfilter.translate import reject_all

pytestmark = [pytest.mark.needs("clang"), pytest.mark.any_kernel]

DAMAGES = 300


@pytest.fixture(scope="module")
def obj(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return gadget_object("packet_expression", tmp_path_factory.mktemp("object"))


def functions(obj: bytes) -> dict[str, tuple[int, int]]:
    elf = Elf(obj)
    (text,) = (s.section for s in elf.symbols if s.name == "gadget_pf_")
    found = [s for s in elf.symbols if s.type == STT_FUNC and s.section == text]
    return {s.name: (s.value, s.size) for s in found}


def test_each_filter_has_a_parameter(obj: bytes) -> None:
    elf = Elf(obj)
    assert filter_functions(elf) == {"pf": "gadget_pf_", "pf-second": "gadget_pf_second"}
    assert [p.full_name for p in filter_params(elf)] == [
        "operator.oci.ebpf.pf",
        "operator.oci.ebpf.pf-second",
    ]


def test_too_many_filters_are_refused(obj: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_filters, "MAX_FILTERS", 1)
    with pytest.raises(LimitError, match="more than 1 packet filters"):
        filter_functions(Elf(obj))


def test_code_behind_the_filter_moves(obj: bytes) -> None:
    code = reject_all()
    before, after = functions(obj), functions(inserted(obj, "gadget_pf_", code, "it"))
    assert len(before) == 4
    start = before["gadget_pf_"][0]
    for name, (value, size) in before.items():
        moved = len(code) if value > start else 0
        grown = len(code) if name == "gadget_pf_" else 0
        assert after[name] == (value + moved, size + grown)


def test_nothing_changes_without_an_expression(obj: bytes) -> None:
    assert filtered(obj, {"operator.oci.ebpf.pf": "", "operator.oci.ebpf.iface": "lo"}, "it") is obj


def test_an_expression_for_an_absent_filter(obj: bytes) -> None:
    with pytest.raises(IgPyError, match=r"--pf-third.*: give one of --pf, --pf-second"):
        filtered(obj, {"operator.oci.ebpf.pf-third": "tcp"}, "it")
    with pytest.raises(IgPyError, match="no function gadget_pf_third"):
        inserted(obj, "gadget_pf_third", reject_all(), "it")


def test_damaged_objects_never_crash(obj: bytes) -> None:
    source = random.Random(3)
    refused = 0
    for _ in range(DAMAGES):
        damaged = bytearray(obj)
        for _ in range(source.choice([1, 4, 64])):
            damaged[source.randrange(len(damaged))] = source.choice([0, 1, 0x7F, 0xFF])
        try:
            inserted(bytes(damaged), "gadget_pf_second", reject_all(), "it")
        except IgPyError:
            refused += 1
    assert 0 < refused < DAMAGES
