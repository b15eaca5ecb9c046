"""Packet filters that an object declares: ``GADGET_PF(name)`` (docs/packet-filters.md)."""

from __future__ import annotations

from ig_py.errors import LimitError
from ig_py.gadget.elf import STT_FUNC, Elf
from ig_py.gadget.params import EBPF_PREFIX
from ig_py.gadget.spec import ParamSpec

FUNCTION = "gadget_pf_"
PARAM = "pf"
MAX_FILTERS = 64


def filter_functions(elf: Elf) -> dict[str, str]:
    """Parameter's key → name of the function that a filter is put into (``GADGET_PF(name)``).

    Raises:
        LimitError: There are more than MAX_FILTERS.
    """
    names = sorted(
        s.name for s in elf.symbols if s.type == STT_FUNC and s.name.startswith(FUNCTION)
    )
    if len(names) > MAX_FILTERS:
        raise LimitError(f"reading {elf.source}: more than {MAX_FILTERS} packet filters")
    return {_key(name): name for name in names}


def filter_params(elf: Elf) -> list[ParamSpec]:
    return [
        ParamSpec(
            key=key,
            prefix=EBPF_PREFIX,
            type_hint="string",
            title="Packet filter",
            description="Packets to see, an expression as for tcpdump (all when empty)",
        )
        for key in filter_functions(elf)
    ]


def _key(function: str) -> str:
    name = function.removeprefix(FUNCTION)
    return f"{PARAM}-{name}" if name else PARAM


def is_filter_param(param: str) -> bool:
    key = param.removeprefix(EBPF_PREFIX)
    return param.startswith(EBPF_PREFIX) and (key == PARAM or key.startswith(f"{PARAM}-"))
