"""Each rule of the program-map diagrams, on hand-written instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from support.elf_writer import (
    GLOBAL,
    LOCAL,
    STT_NOTYPE,
    BtfWriter,
    ElfWriter,
    Insn,
    call,
    call_near,
    exit_,
    helper,
    load,
    move,
)

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget import insn as insn_module
from ig_py.gadget.elf import Elf
from ig_py.inspect.program_graph import ProgramGraph

LOOKUP, UPDATE, DELETE = 1, 2, 3
PERF_OUTPUT, PUSH, POP, PEEK, LOOKUP_PERCPU = 25, 87, 88, 89, 195
Code = Sequence[Insn]


def graph_of(
    *code: Insn,
    maps: Sequence[str] = ("m", "n"),
    more: Callable[[ElfWriter], None] = lambda elf: None,
    btf: bytes | None = None,
) -> ProgramGraph:
    elf = ElfWriter()
    for name in maps:
        elf.map(name)
    more(elf)
    elf.program("prog", "tracepoint/a/b", [*code, exit_()])
    return ProgramGraph(Elf(elf.write(btf), "test"))


@pytest.mark.parametrize(
    ("number", "verb"),
    [
        (LOOKUP, "Lookup"),
        (UPDATE, "Update"),
        (DELETE, "Delete"),
        (PUSH, "Push"),
        (POP, "Pop"),
        (PEEK, "Peek"),
        (LOOKUP_PERCPU, "LookupPercpu"),
    ],
)
def test_helpers_with_the_map_in_the_first_argument(number: int, verb: str) -> None:
    assert graph_of(load(1, "m"), helper(number)).programs == {"prog": [("m", verb)]}


def test_perf_output_takes_the_map_from_the_second_argument() -> None:
    graph = graph_of(load(1, "m"), load(2, "n"), helper(PERF_OUTPUT))
    assert graph.programs == {"prog": [("n", "EventOutput")]}


@pytest.mark.parametrize("number", [130, 131, 132, 27, 12, 164, 107])
def test_other_helpers_do_not_count(number: int) -> None:
    assert graph_of(load(1, "m"), helper(number)).programs == {"prog": []}


def test_a_pair_counts_once_where_it_first_appears() -> None:
    graph = graph_of(
        load(1, "n"), helper(LOOKUP), load(1, "m"), helper(UPDATE), load(1, "n"), helper(LOOKUP)
    )
    assert graph.programs == {"prog": [("n", "Lookup"), ("m", "Update")]}


def test_the_last_loaded_map_is_never_forgotten() -> None:
    # No move, call or branch changes the register before.
    graph = graph_of(
        load(1, "m"),
        move(1, 6),
        helper(5),
        Insn(0x15, 0, off=1),
        helper(LOOKUP),
    )
    assert graph.programs == {"prog": [("m", "Lookup")]}


def test_a_map_moved_from_another_register_is_not_seen() -> None:
    assert graph_of(load(6, "m"), move(1, 6), helper(LOOKUP)).programs == {"prog": []}


def test_a_data_section_is_referred_to_by_its_own_name() -> None:
    def more(elf: ElfWriter) -> None:
        elf.variable("v", ".data", b"\0" * 8)

    graph = graph_of(load(1, "v"), helper(LOOKUP), more=more)
    assert graph.programs == {"prog": [(".data", "Lookup")]}
    assert graph.maps == [".data", "m", "n"]


def test_rodata_and_bss_are_not_shown_as_maps() -> None:
    def more(elf: ElfWriter) -> None:
        elf.variable("a", ".rodata", b"\0")
        elf.variable("b", ".rodata.str", b"\0")
        elf.variable("c", ".bss", 8)

    assert graph_of(more=more).maps == [".rodata.str", "m", "n"]


def test_a_data_section_counts_when_something_points_at_it() -> None:
    def more(elf: ElfWriter) -> None:
        elf.section(".data.x", flags=3, data=bytes(8))
        elf.section(".data.y", flags=3, data=bytes(8))
        elf.section_symbol(".data.x")

    assert graph_of(load(1, ".data.x"), more=more).maps == [".data.x", "m", "n"]


def test_maps_and_programs_are_sorted_bytewise() -> None:
    def more(elf: ElfWriter) -> None:
        elf.program("Zeta", "kprobe/x", [exit_()])
        elf.program("alpha", "kprobe/x", [exit_()])

    graph = graph_of(maps=["b", "a", "Z", "_"], more=more)
    assert graph.maps == ["Z", "_", "a", "b"]
    assert list(graph.programs) == ["Zeta", "alpha", "prog"]


def test_several_programs_in_one_section() -> None:
    def more(elf: ElfWriter) -> None:
        elf.program("first", "tracepoint/a/b", [load(1, "m"), helper(LOOKUP), exit_()])

    graph = graph_of(load(1, "n"), helper(DELETE), more=more)
    assert graph.programs == {"first": [("m", "Lookup")], "prog": [("n", "Delete")]}


def subprograms(elf: ElfWriter) -> None:
    elf.program("sub_b", ".text", [load(1, "n"), helper(UPDATE), exit_()])
    elf.program("sub_a", ".text", [load(1, "m"), helper(LOOKUP), call("sub_b"), exit_()])


def test_called_functions_follow_the_program() -> None:
    graph = graph_of(call("sub_a"), load(1, "n"), helper(DELETE), more=subprograms)
    assert graph.programs == {"prog": [("n", "Delete"), ("m", "Lookup"), ("n", "Update")]}


def test_functions_in_text_are_no_programs() -> None:
    assert list(graph_of(more=subprograms).programs) == ["prog"]


def test_functions_are_visited_breadth_first_by_name() -> None:
    def more(elf: ElfWriter) -> None:
        elf.program("f_deep", ".text", [load(1, "deep"), helper(LOOKUP), exit_()])
        elf.program("f_a", ".text", [call("f_deep"), load(1, "a"), helper(LOOKUP), exit_()])
        elf.program("f_z", ".text", [call("f_deep"), load(1, "z"), helper(LOOKUP), exit_()])

    graph = graph_of(call("f_z"), call("f_a"), maps=["a", "deep", "z"], more=more)
    assert [name for name, _ in graph.programs["prog"]] == ["a", "z", "deep"]


def test_a_function_that_calls_itself_ends() -> None:
    def more(elf: ElfWriter) -> None:
        elf.program("loop", ".text", [load(1, "m"), helper(LOOKUP), call("loop"), exit_()])

    assert graph_of(call("loop"), more=more).programs == {"prog": [("m", "Lookup")]}


def test_a_call_without_relocation_leads_by_distance() -> None:
    elf = ElfWriter()
    elf.map("m")
    elf.program("prog", "kprobe/x", [call_near(1), exit_()])
    elf.program("near", "kprobe/x", [load(1, "m"), helper(LOOKUP), exit_()])
    assert ProgramGraph(Elf(elf.write())).programs["prog"] == [("m", "Lookup")]


def test_a_call_by_the_section_leads_by_offset() -> None:
    def more(elf: ElfWriter) -> None:
        subprograms(elf)
        elf.section_symbol(".text")

    # sub_a is at 4 instructions (32 bytes): the offset is (imm + 1) * 8.
    by_section = Insn(0x85, src=1, imm=3, symbol=".text")
    assert graph_of(by_section, more=more).programs == {"prog": [("m", "Lookup"), ("n", "Update")]}


def test_a_function_pointer_is_a_reference_too() -> None:
    def more(elf: ElfWriter) -> None:
        subprograms(elf)
        elf.section_symbol(".text")

    pointer = load(2, ".text", src=4, imm=32)
    assert graph_of(pointer, more=more).programs == {"prog": [("m", "Lookup"), ("n", "Update")]}


def test_a_call_into_nowhere_is_malformed() -> None:
    with pytest.raises(ObjectError, match="where no function is"):
        graph_of(call_near(100))


def test_local_labels_are_no_functions() -> None:
    def more(elf: ElfWriter) -> None:
        elf.program("p", "kprobe/x", [exit_(), exit_()])
        elf.symbol("LBB0_1", "kprobe/x", 8, 8, STT_NOTYPE, LOCAL)
        elf.symbol("asm_entry", "kprobe/y", 0, 8, STT_NOTYPE, GLOBAL)
        elf.section("kprobe/y", flags=6, data=exit_().encode())

    assert list(graph_of(more=more).programs) == ["asm_entry", "p", "prog"]


def test_externs_hold_their_name_but_kernel_configuration_does_not() -> None:
    def more(elf: ElfWriter) -> None:
        elf.symbol("bpf_prog_active", "", type=STT_NOTYPE)
        elf.symbol("CONFIG_HZ", "", type=STT_NOTYPE)

    btf = BtfWriter()
    hz = btf.variable("CONFIG_HZ", btf.integer("int", 4), linkage=2)
    btf.datasec(".kconfig", [(hz, 0, 4)])
    code = [load(1, "bpf_prog_active"), helper(LOOKUP), load(1, "m"), load(1, "CONFIG_HZ")]
    graph = graph_of(*code, helper(UPDATE), more=more, btf=btf.write())
    assert graph.programs == {"prog": [("bpf_prog_active", "Lookup"), ("m", "Update")]}


def test_a_16_byte_load_is_one_instruction() -> None:
    # The second half of a wide instruction looks like a helper call.
    trick = Insn(0x18, 3, imm=0x85 << 32)
    assert graph_of(load(1, "m"), trick, helper(LOOKUP)).programs == {"prog": [("m", "Lookup")]}


def flow_lines(graph: ProgramGraph) -> list[str]:
    return [line for line in graph.flowchart().splitlines() if "--" in line]


def test_lookup_update_delete_share_a_line_in_this_order() -> None:
    graph = graph_of(
        load(1, "m"), helper(DELETE), load(1, "n"), helper(LOOKUP), load(1, "m"), helper(LOOKUP),
        helper(UPDATE),
    )  # fmt: skip
    assert flow_lines(graph) == [
        'prog -- "Lookup+Update+Delete" --> m',
        'prog -- "Lookup" --> n',
    ]


def test_another_verb_first_is_replaced_by_the_joined_ones() -> None:
    graph = graph_of(load(1, "m"), helper(LOOKUP_PERCPU), helper(UPDATE), helper(LOOKUP))
    assert flow_lines(graph) == ['prog -- "Lookup+Update" --> m']


def test_another_verb_later_keeps_its_line() -> None:
    graph = graph_of(load(1, "m"), helper(LOOKUP), helper(UPDATE), helper(PUSH))
    assert flow_lines(graph) == ['prog -- "Lookup+Update" --> m', 'prog -- "Push" --> m']


def test_flowchart_text() -> None:
    graph = graph_of(load(1, "m"), helper(LOOKUP), maps=["unused", "m"])
    assert graph.flowchart() == (
        'flowchart LR\nm[("m")]\nunused[("unused")]\nprog -- "Lookup" --> m\nprog["prog"]\n'
    )


def test_sequence_text() -> None:
    def more(elf: ElfWriter) -> None:
        elf.program("a", "kprobe/x", [load(1, "n"), helper(LOOKUP), helper(UPDATE), exit_()])

    graph = graph_of(load(1, "m"), helper(DELETE), load(1, "n"), helper(LOOKUP), more=more)
    assert graph.sequence() == (
        "sequenceDiagram\n"
        "box eBPF Programs\n"
        "participant a\n"
        "participant prog\n"
        "end\n"
        "box eBPF Maps\n"
        "participant n\n"
        "participant m\n"
        "end\n"
        "a->>n: Lookup\n"
        "a->>n: Update\n"
        "prog->>m: Delete\n"
        "prog->>n: Lookup\n"
    )


def test_too_many_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insn_module, "MAX_INSTRUCTIONS", 2)
    with pytest.raises(LimitError, match="instructions"):
        graph_of(exit_(), exit_())


def test_too_many_instructions_when_functions_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insn_module, "MAX_FLAT_INSTRUCTIONS", 5)
    with pytest.raises(LimitError, match="instructions"):
        graph_of(call("sub_a"), more=subprograms)


def test_code_that_ends_within_a_16_byte_load() -> None:
    elf = ElfWriter()
    elf.program("prog", "kprobe/x", [Insn(0x95)])
    raw = bytearray(elf.write())
    raw[raw.index(exit_().encode())] = 0x18
    with pytest.raises(ObjectError, match="cut short"):
        ProgramGraph(Elf(bytes(raw)))
