"""``ig-py doctor``: what works on this machine, and what each source of containers cannot see."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from ig_py.cli import _container_flags as flags
from ig_py.cli import _needed_flags, _stdout
from ig_py.errors import UsageError
from ig_py.oci import gojson

if TYPE_CHECKING:
    from ig_py.containers.discovery import Discovery

LIST_SECONDS = 5.0
MODES = ("text", "json")
FEATURES = (
    ("ringbuf", "ring buffers (else perf buffers)"),
    ("btf", "type information of the kernel"),
    ("kprobe", "gadgets with kprobes"),
    ("tracepoint", "gadgets with tracepoints, admission of containers"),
    ("raw_tracepoint", "gadgets with raw tracepoints, admission of containers"),
    ("fentry", "gadgets with fentry programs"),
    ("lsm", "gadgets with LSM programs"),
    ("iter", "gadgets that list what there is"),
    ("uprobe", "gadgets with uprobes"),
    ("run_stats", "what eBPF programs take (else by a sysctl)"),
)
"""What the core can probe, and what needs it."""


@click.command("doctor", help="Say what can be seen from here, and what cannot.")
@click.option("-o", "--output", default="text", metavar="MODE", help="text, json")
@click.option(
    "--timeout",
    default="0",
    callback=flags.seconds,
    metavar="SECONDS",
    help="Watch containers come and go for so many seconds first, to compare the sources",
)
@flags.runtime_options
def command(output: str, timeout: float, **values: Any) -> None:
    if output not in MODES:
        raise UsageError(
            f"invalid argument '--output / -o': {output!a} output mode is not supported",
            remedy=f"give one of {', '.join(MODES)}",
        )
    _needed_flags.check_command(_needed_flags.ENGINES, values)
    found = examine(values, timeout)
    if output == "json":
        _stdout.write_json(gojson.dumps(found, indent="  ").decode() + "\n")
        return
    _stdout.write_lines(*_text(found))


def examine(values: dict[str, Any], seconds: float = 0) -> dict[str, Any]:
    """Everything there is to tell. *values* are those of the runtime flags; *seconds*: how long
    containers are watched first.

    Raises:
        UsageError: A runtime or protocol does not exist.
        ContainerError: An engine that the user named cannot be used, or the host's /proc cannot
            be seen.
    """
    from ig_py.containers.report import disagreements, statuses
    from ig_py.containers.scout import scout_refusal

    tracker = flags.tracker(values)
    try:
        tracker.start()
        tracker.wait_listed(LIST_SECONDS)
        time.sleep(seconds)
        discovery = tracker.discovery
        return {
            "host": _host(discovery),
            "kernel": _kernel(),
            "engines": [
                {
                    "runtime": client.name,
                    "socket": client.socket_path,
                    "answers": client.connected,
                    "containers": client.containers,
                    "error": client.error,
                }
                for client in discovery.engines.clients
            ],
            "containers": len(discovery.collection),
            "sources": [s.to_json() for s in statuses(discovery, scout_refusal(tracker.view))],
            "toldFirst": {s.value: count for s, count in discovery.found_first.items()},
            "hold": _exec_hold(),
            "disagreements": disagreements(discovery),
        }
    finally:
        tracker.stop()


def _host(discovery: Discovery) -> dict[str, Any]:
    from ig_py.host import tracefs

    view = discovery.view
    return {
        "root": os.geteuid() == 0,
        "hostRoot": view.root,
        "hostPids": view.same_pidns,
        "hostNamespacesReadable": view.host_netns is not None,
        "cgroup2": view.cgroup2_mount(),
        "tracefsMounted": tracefs.mounted(),
    }


def _kernel() -> list[dict[str, Any]]:
    try:
        from ig_py._core import CoreError, probe
    except ImportError as error:
        return [{"feature": "core", "there": False, "for": str(error)}]
    found: list[dict[str, Any]] = []
    for name, purpose in FEATURES:
        try:
            found.append({"feature": name, "there": probe(name), "for": purpose})
        except CoreError as err:
            found.append({"feature": name, "there": None, "for": purpose, "error": err.message})
    return found


def _found(feature: dict[str, Any]) -> str:
    if feature["there"] is None:
        return f"not known: {feature['error']}"
    return "there" if feature["there"] else f"missing: {feature['for']}"


def _exec_hold() -> dict[str, Any]:
    """Whether --hold-containers can work, and the runtimes that it would hold."""
    from ig_py.containers.runtime_paths import runtime_paths
    from ig_py.host.proc import HostView

    paths = runtime_paths(HostView.from_env())
    try:
        from ig_py._core import exec_hold_refusal
    except ImportError as error:
        return {"possible": False, "detail": str(error)}
    why = exec_hold_refusal() or ("" if paths else "no runtime is where they usually are")
    return {"possible": not why, "detail": why or ", ".join(paths)}


def _text(found: dict[str, Any]) -> list[str]:
    host = found["host"]
    yes = {True: "yes", False: "no"}
    lines = ["Host"]
    lines += _rows(
        [
            ("root", yes[host["root"]]),
            ("host's files below", host["hostRoot"]),
            ("host's process numbers", yes[host["hostPids"]]),
            (
                "namespaces of process 1",
                "readable"
                if host["hostNamespacesReadable"]
                else "not readable: hostNetwork is "
                "what engines say, and host processes' files may be out of reach",
            ),
            ("control groups v2", host["cgroup2"] or "not mounted: no cgroupID and cgroupPath"),
            ("tracefs", "mounted" if host["tracefsMounted"] else "not mounted"),
        ]
    )
    lines += ["", "Kernel"]
    lines += _rows([(f["feature"], _found(f)) for f in found["kernel"]])
    lines += ["", "Engines"]
    lines += _rows(
        [
            (
                e["runtime"],
                e["socket"],
                f"{e['containers']} running" if e["answers"] else _why(e["error"]),
            )
            for e in found["engines"]
        ]
    )
    lines += ["", f"Sources of containers ({found['containers']} running now)"]
    for source in found["sources"]:
        state = "active" if source["active"] else "not active"
        lines.append(f"  {source['source']}: {state}: {source['detail']}")
        lines.append(f"    cannot see: {source['cannotSee']}")
        if source["source"] in found["toldFirst"]:
            lines.append(f"    told first of: {found['toldFirst'][source['source']]}")
    held = found["hold"]
    state = "possible" if held["possible"] else "not possible"
    lines += ["", "Holding runtimes (--hold-containers)", f"  {state}: {held['detail']}"]
    lines += ["", "Disagreements of the sources"]
    counted = found["disagreements"]
    lines += _rows(
        [
            ("found by looking at processes only", str(counted["foundByProcessesOnly"])),
            ("missed by engine events", str(counted["missedByEngineEvents"])),
            ("not told by their engine", str(counted["notToldByTheirEngine"])),
            ("came without a runtime that was seen", str(counted["runtimeNotSeen"])),
            ("begun by a runtime and never came", str(counted["begunOnly"])),
        ]
    )
    return lines


def _why(error: str) -> str:
    return error.rpartition(": ")[2] or "no answer yet"


def _rows(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of cells, aligned but for the last one."""
    if not rows:
        return ["  none"]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "  " + "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
