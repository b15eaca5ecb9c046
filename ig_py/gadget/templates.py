"""Named sets of field annotations (docs/reference/metadata.md#templates), and those that C types
imply (docs/reference/ebpf.md#types-that-imply-annotations)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

BASE: Mapping[str, str] = MappingProxyType(
    {"columns.width": "16", "columns.ellipsis": "end", "columns.alignment": "left"}
)
"""Annotations of a field about which nothing is said."""


def _template(
    width: int = 0,
    minimum: int = 0,
    maximum: int = 0,
    *,
    right: bool = False,
    ellipsis: str = "",
    hidden: bool = False,
    description: str = "",
) -> Mapping[str, str]:
    pairs = {
        "columns.width": str(width or ""),
        "columns.minwidth": str(minimum or ""),
        "columns.maxwidth": str(maximum or ""),
        "columns.alignment": "right" if right else "",
        "columns.ellipsis": ellipsis,
        "columns.hidden": "true" if hidden else "",
        "description": description,
    }
    return MappingProxyType({k: v for k, v in pairs.items() if v})


TEMPLATES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "timestamp": _template(
            35,
            maximum=35,
            ellipsis="end",
            hidden=True,
            description="Microseconds since Unix epoch",
        ),
        "bytes": _template(10, right=True),
        "duration": _template(20, right=True),
        "node": _template(30, ellipsis="middle"),
        "pod": _template(30, ellipsis="middle"),
        "container": _template(30),
        "namespace": _template(30),
        "containerImageName": _template(30),
        "containerImageDigest": _template(30),
        "containerPid": _template(6, right=True, hidden=True),
        "containerStartedAt": _template(35, hidden=True),
        "comm": _template(maximum=16, description="Process name"),
        "pcomm": _template(maximum=16, hidden=True, description="Parent process name"),
        "pid": _template(minimum=7, right=True, description="Process ID"),
        "ppid": _template(minimum=7, right=True, hidden=True, description="Parent process ID"),
        "tid": _template(minimum=7, right=True, description="Thread ID"),
        "ptid": _template(minimum=7, right=True, hidden=True, description="Parent thread ID"),
        "uid": _template(minimum=8, right=True, description="User ID"),
        "gid": _template(minimum=8, right=True, description="Group ID"),
        "ns": _template(12, right=True, hidden=True),
        "mntns_id": _template(12, right=True, hidden=True, description="Mount namespace ID"),
        "netns_id": _template(12, right=True, hidden=True, description="Network namespace ID"),
        "l4endpoint": _template(40, 22, 52, ellipsis="middle"),
        "syscall": _template(18, maximum=28, description="Syscall"),
        "errorString": _template(12),
        "user_stack": _template(hidden=True, description="User stack trace"),
    }
)

# Reality: gadget_ptid, gadget_syscall, gadget_errno, gadget_bytes and
# gadget_duration imply nothing although templates of those names exist.
_BY_TYPE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        f"gadget_{name}": TEMPLATES[name]
        for name in (
            "comm",
            "pcomm",
            "uid",
            "gid",
            "pid",
            "ppid",
            "tid",
            "timestamp",
            "mntns_id",
            "netns_id",
            "user_stack",
        )
    }
    | {
        name: MappingProxyType({"columns.hidden": "true"})
        for name in ("gadget_process", "gadget_creds", "gadget_parent")
    }
)

ALIASING_STRUCTS = frozenset({"gadget_process", "gadget_creds", "gadget_parent"})
"""Structs whose members are headed by their short name in columns."""


def implied_by(type_name: str) -> Mapping[str, str]:
    """Annotations that a C type name implies (empty for most)."""
    return _BY_TYPE.get(type_name, {})
