"""``--pf``: which packets a gadget sees, an expression as for tcpdump (docs/packet-filters.md)."""

from __future__ import annotations

from collections.abc import Mapping

from ig_py.errors import UsageError
from ig_py.gadget.elf import Elf
from ig_py.gadget.packet_filters import filter_functions, is_filter_param
from ig_py.gadget.params import EBPF_PREFIX

REJECT_ALL = "__reject_all__"
"""The expression that no packet matches, as ``ig`` has it."""


def filtered(obj: bytes, values: Mapping[str, str], source: str) -> bytes:
    """*obj* with the filters of *values* (parameters' full names → text) in their functions.

    Raises:
        UsageError: A value is not a filter expression, or libpcap is not there.
        ObjectError: A filter cannot be put into the object.
        LimitError: The object would be too large.
    """
    wanted = {k: v for k, v in values.items() if v and is_filter_param(k)}
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
