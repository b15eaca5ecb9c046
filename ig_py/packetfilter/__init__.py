"""``--pf``: what packets a gadget sees, an expression as for tcpdump (docs/packet-filters.md)."""

from __future__ import annotations

from collections.abc import Mapping

from ig_py.errors import LimitError, UsageError
from ig_py.gadget.elf import STT_FUNC, Elf
from ig_py.gadget.params import EBPF_PREFIX
from ig_py.gadget.spec import ParamSpec

FUNCTION = "gadget_pf_"
PARAM = "pf"
REJECT_ALL = "__reject_all__"
"""The expression that no packet matches, a word of the compatible system's."""
MAX_FILTERS = 64


def filter_functions(elf: Elf) -> dict[str, str]:
    """Parameter's key → name of the function that a filter is put into (``GADGET_PF(name)``).

    :class:`LimitError` when there are more than MAX_FILTERS.
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


def filtered(obj: bytes, values: Mapping[str, str], source: str) -> bytes:
    """*obj* with the filters of *values* (parameters' full names → text) in their functions.

    :class:`UsageError` for what is no expression, or when libpcap is not there;
    :class:`ObjectError` or :class:`LimitError` for an object they cannot be put into.
    """
    wanted = {k: v for k, v in values.items() if v and _is_filter(k)}
    if not wanted:
        return obj
    from ig_py.packetfilter.expression import compiled
    from ig_py.packetfilter.insertion import inserted
    from ig_py.packetfilter.translate import reject_all, translated

    functions = filter_functions(Elf(obj, source))
    for key, name in functions.items():
        text = wanted.pop(EBPF_PREFIX + key, "")
        if not text:
            continue
        code = reject_all() if text == REJECT_ALL else translated(compiled(text, f"--{key}"))
        obj = inserted(obj, name, code, source)
    for left in wanted:
        flags = ", ".join(f"--{key}" for key in functions)
        raise UsageError(
            f"--{left.removeprefix(EBPF_PREFIX)}: {source} has no such packet filter",
            remedy=f"give one of {flags}" if flags else "leave it out: the gadget has none",
        )
    return obj


def _key(function: str) -> str:
    name = function.removeprefix(FUNCTION)
    return f"{PARAM}-{name}" if name else PARAM


def _is_filter(param: str) -> bool:
    key = param.removeprefix(EBPF_PREFIX)
    return param.startswith(EBPF_PREFIX) and (key == PARAM or key.startswith(f"{PARAM}-"))
