"""Build containers of builds that were killed are removed; no others."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ig_py.toolchain import container
from ig_py.toolchain.container import LABEL, _Owner


@dataclass
class Container:
    labels: dict[str, str]
    removed: list[dict[str, bool]] = field(default_factory=list)

    def remove(self, **options: bool) -> None:
        self.removed.append(options)


def sweep(*containers: Container) -> list[bool]:
    def found(**options: Any) -> list[Container]:
        assert options == {"all": True, "filters": {"label": LABEL}}
        return list(containers)

    container._sweep(SimpleNamespace(containers=SimpleNamespace(list=found)))
    return [bool(c.removed) for c in containers]


def test_only_those_of_processes_that_ended() -> None:
    mine = _Owner.this()
    dead = subprocess.Popen(["true"])
    dead.wait()
    fields = (mine.boot_id, mine.uid, mine.pidns, dead.pid, mine.started)
    cases: list[tuple[str, bool]] = [
        (mine.label(), False),
        (_Owner(*fields).label(), True),
        # The number is another process's by now.
        (_Owner(*fields[:3], os.getpid(), mine.started - 1).label(), True),
        (_Owner("another boot", *fields[1:]).label(), False),
        (_Owner(mine.boot_id, mine.uid + 1, *fields[2:]).label(), False),
        (_Owner(*fields[:2], mine.pidns + 1, *fields[3:]).label(), False),
        ("", False),
        (f"{mine.boot_id}/0/x/1/1", False),
        ("a/b", False),
    ]
    containers = [Container({LABEL: label}) for label, _ in cases]
    assert sweep(*containers) == [gone for _, gone in cases]
    assert containers[1].removed == [{"force": True, "v": True}]
