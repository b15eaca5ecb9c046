"""What each step of a plan does to an event's values: the plain reference (docs/plan.md)."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, MutableMapping
from typing import Any

from support import reference_time
from support.reference_names import ERRNOS, PROTOCOLS, SIGNALS, SYSCALLS

_U64 = (1 << 64) - 1
_SYSCALLS_END = 1024
_PROTOCOLS_END = 256
_UNASSIGNED_PROTOCOLS = range(146, 253)
_POD_KEYS = ("k8s.podName", "k8s.namespace")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_MODE_LETTERS = "dalTLDpSugct?"
_ACCESS = {0: "O_RDONLY", 1: "O_WRONLY", 2: "O_RDWR"}
_FILE_FLAGS = {
    "O_CREAT": 0o100,
    "O_EXCL": 0o200,
    "O_NOCTTY": 0o400,
    "O_TRUNC": 0o1000,
    "O_APPEND": 0o2000,
    "O_NONBLOCK": 0o4000,
    "O_DSYNC": 0o10000,
    "O_FASYNC": 0o20000,
    "O_DIRECT": 0o40000,
    "O_LARGEFILE": 0o100000,
    "O_DIRECTORY": 0o200000,
    "O_NOFOLLOW": 0o400000,
    "O_NOATIME": 0o1000000,
    "O_CLOEXEC": 0o2000000,
}


class Refused(Exception):
    """The event is left out: an endpoint of it has an unknown version."""


class Untold(Exception):
    """An input that the reference has no answer for: the time of now, a row of a big table."""


def _of_table(table: Mapping[int, str], value: int, end: int, unknown: str) -> str:
    """Tables here are samples: of what they leave out, only numbers out of range are known."""
    if value in table:
        return table[value]
    if value < end and value not in _UNASSIGNED_PROTOCOLS:
        raise Untold(value)
    return unknown


def byte_size(value: int) -> str:
    if value < 10:
        return f"{value} B"
    power = min(len(_UNITS) - 1, (len(str(value)) - 1) // 3)
    scaled = math.floor(value / 1000**power * 10 + 0.5) / 10
    return f"{scaled:.1f} {_UNITS[power]}" if scaled < 10 else f"{scaled:.0f} {_UNITS[power]}"


def duration(value: int) -> str:
    if value < 1_000:
        return f"{value}ns"
    if value < 1_000_000:
        return f"{value / 1e3:.2f}µs"
    if value < 1_000_000_000:
        return f"{value / 1e6:.2f}ms"
    if value >> 63:
        return "-" + _signed_duration((1 << 64) - value)
    return _signed_duration(value)


def _signed_duration(value: int) -> str:
    """Go's text of a positive duration; theirs are signed, so huge ones came out negative."""
    if value < 1_000:
        return f"{value}ns"
    for unit, name in ((1_000, "µs"), (1_000_000, "ms")):
        if value < unit * 1000:
            digits = len(str(unit)) - 1
            fraction = f".{value % unit:0{digits}}".rstrip("0").rstrip(".")
            return f"{value // unit}{fraction}{name}"
    seconds, nanoseconds = divmod(value, 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    text = f"{seconds}{fraction}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def file_mode(value: int) -> str:
    letters = "".join(c for i, c in enumerate(_MODE_LETTERS) if value >> (31 - i) & 1)
    rights = "".join(c if value >> (8 - i) & 1 else "-" for i, c in enumerate("rwxrwxrwx"))
    return (letters or "-") + rights


def file_flags(value: int) -> str:
    names = [_ACCESS[value & 3]] if value & 3 in _ACCESS else []
    return "|".join(names + [name for name, bit in _FILE_FLAGS.items() if value & bit])


def enum(step: Mapping[str, Any], value: int) -> str:
    pairs = [(number & _U64, name) for number, name in step["values"]]
    value &= _U64
    if step.get("set"):
        names = [name for number, name in pairs if value & number == number]
        return str(step.get("separator", "|")).join(names)
    return next((name for number, name in pairs if number == value), "UNKNOWN")


def address(version: int, raw: bytes) -> str:
    if version == 4:
        return str(ipaddress.IPv4Address(raw[:4]))
    whole = ipaddress.IPv6Address(raw)
    return str(whole.ipv4_mapped or whole)


def _named(step: Mapping[str, Any], value: int, world: Any) -> str:
    op = step["op"]
    if op == "errno":
        return "" if value == 0 else ERRNOS.get(value, f"error#{value}")
    if op == "signal":
        return SIGNALS.get(value, f"signal#{value}")
    if op == "user":
        return str(world.users.get(value, f"uid:{value}"))
    if op == "group":
        return str(world.groups.get(value, f"gid:{value}"))
    if op == "syscall":
        return f"SYS_{_of_table(SYSCALLS, value, _SYSCALLS_END, 'unknown').upper()}"
    if op == "enum":
        return enum(step, value)
    plain = {
        "bytes": byte_size,
        "duration": duration,
        "file_mode": file_mode,
        "file_flags": file_flags,
    }
    return plain[op](value)


def _timestamp(
    step: Mapping[str, Any], kind: str, values: MutableMapping[int, Any], w: Any
) -> None:
    boot = values[step["src"]] & _U64
    if boot == 0:
        raise Untold("now")
    wall = (boot + w.clock_offset_ns) & _U64
    signed = wall - (1 << 64) if wall >> 63 else wall
    values[step["src"]] = signed if kind == "i64" else wall
    if step.get("dst") is not None:
        layout = step.get("layout") or reference_time.DEFAULT_LAYOUT
        values[step["dst"]] = reference_time.show(signed, w.timezone_offset_s, layout).encode()


def _endpoint(
    step: Mapping[str, Any],
    specs: Mapping[int, Mapping[str, Any]],
    values: MutableMapping[int, Any],
    sample: bytes,
) -> None:
    if values[step["version"]] not in (4, 6):
        raise Refused
    start = specs[step["addr_raw"]]["offset"]
    shown = address(values[step["version"]], sample[start : start + 16])
    values[step["addr"]] = shown.encode()
    if step["op"] == "l3endpoint":
        return
    if step.get("proto") is not None:
        number = values[step["proto_raw"]]
        name = _of_table(PROTOCOLS, number, _PROTOCOLS_END, f"proto#{number}")
        values[step["proto"]] = name.encode()
    if step.get("endpoint") is not None:
        values[step["endpoint"]] = f"{shown}:{values[step['port']]}".encode()


def _container(mntns: int | None, netns: int | None, world: Any) -> dict[str, Any]:
    if mntns in world.containers:
        return dict(world.containers[mntns][1])
    sharing = [given for net, given in world.containers.values() if net == netns]
    if not sharing or sharing[0].get("k8s.hostnetwork"):
        return {}
    first = dict(sharing[0])
    if len(sharing) > 1:
        if not all(first.get(key) for key in _POD_KEYS):
            return {}
        first.pop("runtime.containerPid", None)
    first.pop("k8s.hostnetwork", None)
    return first


def apply(
    step: Mapping[str, Any],
    specs: Mapping[int, Mapping[str, Any]],
    values: MutableMapping[int, Any],
    sample: bytes,
    world: Any,
) -> None:
    """Changes *values* as *step* says; *world* is a ``support.reference.World``."""
    op = step["op"]
    if op == "timestamp":
        _timestamp(step, specs[step["src"]]["kind"], values, world)
    elif op in ("l3endpoint", "l4endpoint"):
        _endpoint(step, specs, values, sample)
    elif op == "text":
        values[step["dst"]] = step["value"].encode()
    elif op == "container":
        spaces = [values[step[k]] if step.get(k) is not None else None for k in ("mntns", "netns")]
        found = _container(spaces[0], spaces[1], world)
        for full_name, number in step["fields"].items():
            if full_name in found:
                value = found[full_name]
                values[number] = value.encode() if isinstance(value, str) else value
    else:
        values[step["dst"]] = _named(step, int(values[step["src"]]), world).encode()
