"""Which program does what with which map: flowchart and sequence diagram (Mermaid).

Best effort by reading instructions in order, without control flow: a helper
call is attributed to the map that was last loaded into its argument register.
The rules (docs/reference/ebpf.md#diagrams) are kept byte for byte, since the
diagrams of existing gadgets are compared.
"""

from __future__ import annotations

import itertools

from ig_py.gadget.allowance import Allowance
from ig_py.gadget.elf import Elf
from ig_py.gadget.insn import CALL, Code, Function
from ig_py.inspect.lines import Lines

MAX_TEXT = 4 << 20
"""Characters of a diagram: a long name may be drawn once for each interaction."""
HIDDEN_MAPS = frozenset({".rodata", ".bss"})
_MERGED = ("Lookup", "Update", "Delete")

# Helper id (include/uapi/linux/bpf.h) -> verb, register that holds the map.
_HELPERS = {
    1: ("Lookup", 1),
    2: ("Update", 1),
    3: ("Delete", 1),
    25: ("EventOutput", 2),
    87: ("Push", 1),
    88: ("Pop", 1),
    89: ("Peek", 1),
    195: ("LookupPercpu", 1),
}

Interaction = tuple[str, str]
"""(map, verb)"""


class ProgramGraph:
    """The program-map interactions of one object."""

    def __init__(self, elf: Elf, code: Code | None = None) -> None:
        code = code or Code(elf)
        self.source = elf.source
        self.maps = [name for name in code.maps() if name not in HIDDEN_MAPS]
        self.programs: dict[str, list[Interaction]] = {
            program.name: self._interactions(code, program) for program in code.programs()
        }

    def _interactions(self, code: Code, program: Function) -> list[Interaction]:
        last: dict[int, str] = {}
        # Insertion-ordered set: the order of first appearance matters.
        found: dict[Interaction, None] = {}
        for ins in itertools.chain.from_iterable(f.instructions for f in code.reached(program)):
            if ins.opcode == CALL and ins.src == 0 and ins.dst == 0:
                verb, register = _HELPERS.get(ins.imm, ("", 0))
                name = last.get(register, "")
                if verb and name:
                    found.setdefault((name, verb))
            if ins.reference:
                last[ins.dst] = ins.reference
        return list(found)

    def flowchart(self) -> str:
        lines = self._lines("flowchart LR")
        lines.add(*(f'{name}[("{name}")]' for name in self.maps))
        for program, found in self.programs.items():
            interactions = dict.fromkeys(found)
            consumed: set[Interaction] = set()
            for pair in interactions:
                if pair in consumed:
                    continue
                name, verb = pair
                merged = [
                    v for v in _MERGED if (name, v) in interactions and (name, v) not in consumed
                ]
                if len(merged) > 1:
                    consumed.update((name, v) for v in merged)
                    verb = "+".join(merged)
                lines.add(f'{program} -- "{verb}" --> {name}')
            lines.add(f'{program}["{program}"]')
        return lines.text()

    def sequence(self) -> str:
        maps = dict.fromkeys(name for pairs in self.programs.values() for name, _ in pairs)
        lines = self._lines("sequenceDiagram", "box eBPF Programs")
        lines.add(*(f"participant {program}" for program in self.programs))
        lines.add("end", "box eBPF Maps")
        lines.add(*(f"participant {name}" for name in maps if name not in HIDDEN_MAPS))
        lines.add("end")
        for program, pairs in self.programs.items():
            for name, verb in pairs:
                lines.add(f"{program}->>{name}: {verb}")
        return lines.text()

    def _lines(self, *first: str) -> Lines:
        lines = Lines(Allowance(MAX_TEXT, f"drawing {self.source}", "characters"))
        lines.add(*first)
        return lines
