"""What runc and crun write about a container: its init, and where its bundle is.

Both keep one directory for each container below a root (``/run/runc/ID``). The files are private
to the runtime, and may be of any version of it: whatever does not fit is ignored.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from ig_py.containers.model import text
from ig_py.host.proc import HostView
from ig_py.host.safe_open import FileRefused, read_beneath
from ig_py.records import dataclass

log = logging.getLogger(__name__)

MAX_STATE = 4 * 1024 * 1024
MAX_USER_STATE = 256 * 1024
"""As :data:`MAX_STATE`, for files of users: they are parsed whenever they are written."""
STATE_FILES = ("state.json", "status")
"""runc's and crun's."""


@dataclass(frozen=True, slots=True)
class State:
    """``start``: of init, in clock ticks since boot; 0 when the file does not tell it."""

    pid: int
    start: int = 0
    bundle: str = ""


def read_state(root: str, directory: str, owners: set[int]) -> State | None:
    """The state kept in *directory* below *root*; None when there is none (yet).

    *owners*: the users of whom its file may be. Nothing of a file system that a user has mounted
    is asked, so this never waits.

    Raises:
        HostReadError: There may be one, and it cannot be read.
    """
    trusted = bool(owners & {0, os.geteuid()})
    most = MAX_STATE if trusted else MAX_USER_STATE
    for name in STATE_FILES:
        try:
            raw = read_beneath(root, f"{directory}/{name}", most=most, owners=owners)
        except FileRefused as error:
            error.require_known(trusted=trusted)
            log.debug("%s", error)
            continue
        if raw is not None:
            return parse(raw)
    return None


def parse(raw: bytes) -> State | None:
    """runc's or crun's text; None for nonsense."""
    try:
        document: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    pid = _number(document, "init_process_pid") or _number(document, "pid")
    start = _number(document, "init_process_start") or _number(document, "process-start-time")
    bundle = document.get("bundle") or _label(document.get("config"), "bundle=")
    return State(pid, start, text(bundle, 4096)) if pid else None


def is_same(view: HostView, state: State) -> bool:
    """Whether the process of that pid is the init meant: it started when the state says.

    Raises:
        HostReadError: That cannot be known.
    """
    if not state.start:
        return view.started_at(state.pid) != 0
    return view.born(state.pid) == state.start


def _number(document: dict[str, Any], key: str) -> int:
    value = document.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63:
        return value
    return 0


def _label(config: Any, prefix: str) -> str:
    found = config.get("labels") if isinstance(config, dict) else None
    for item in found if isinstance(found, list) else ():
        if isinstance(item, str) and item.startswith(prefix):
            return item.removeprefix(prefix)
    return ""
