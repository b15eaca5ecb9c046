"""A core without a kernel: records what is done to it, fails on demand."""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ig_py._core import CoreError


@dataclass
class Batch:
    datasource: str
    data: bytes
    events: int

    def whole_events(self, written: int) -> int:
        return self.data[:written].count(b"\n")


@dataclass
class Fake:
    """What the fake does: *fail* maps ``method`` or ``method name`` to an error."""

    programs: Sequence[str] = ("prog",)
    features: Mapping[str, bool] = field(default_factory=dict)
    fail: dict[str, CoreError] = field(default_factory=dict)
    batches: list[list[Batch]] = field(default_factory=list)
    lost: int | None = 0
    log: list[str] = field(default_factory=list)
    plans: list[Any] = field(default_factory=list)
    open_objects: int = 0

    def did(self, what: str) -> None:
        self.log.append(what)
        for key in (what, what.split(" ")[0]):
            if key in self.fail:
                raise self.fail[key]


class Stream:
    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self._awake = threading.Event()
        self._emitted = 0

    def pump(
        self,
        sink: Callable[[Batch], None],
        timeout_ms: int | None,
        *,
        busy_ms: int | None = None,
    ) -> int:
        self._fake.did("pump")
        if not self._fake.batches:
            self._awake.wait(None if timeout_ms is None else timeout_ms / 1000)
            return 0
        batches = self._fake.batches.pop(0)
        for batch in batches:
            self._emitted += batch.events
            sink(batch)
        return len(batches)

    def counters(self) -> dict[str, dict[str, int | None]]:
        self._fake.did("counters")
        return {"exec": {"received": self._emitted, "emitted": self._emitted,
                         "discarded": 0, "lost": self._fake.lost,
                         "lost_others": 0, "lost_unidentified": 0}}  # fmt: skip

    def undecided(self) -> int:
        return 0

    def refused(self) -> int:
        return 0

    def lost_stacks(self) -> int:
        return 0

    def give_up(self) -> int:
        self._fake.did("give_up")
        return sum(batch.events for batches in self._fake.batches for batch in batches)

    def wake(self) -> None:
        self._awake.set()

    def close(self) -> None:
        self._fake.did("stream.close")


def install(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> Fake:
    """Make *fake* the ``ig_py._core`` of this test."""

    class Object:
        def __init__(self, elf: bytes, name: str, types: bytes | None = None) -> None:
            fake.did("open" if types is None else f"open with {types!r}")
            fake.open_objects += 1
            self._closed = False

        def programs(self) -> list[dict[str, str]]:
            return [{"name": name} for name in fake.programs]

        def stream(self, plan: str) -> Stream:
            fake.did("stream")
            fake.plans.append(json.loads(plan))
            return Stream(fake)

        def close(self) -> None:
            if not self._closed:
                self._closed = True
                fake.open_objects -= 1
                fake.did("close")

        def __getattr__(self, method: str) -> Any:
            def call(*args: object, **settings: object) -> None:
                fake.did(
                    " ".join([method, *map(str, args), *(k for k, v in settings.items() if v)])
                )

            return call

    def probe(feature: str) -> bool:
        fake.did(f"probe {feature}")
        return fake.features.get(feature, True)

    def pipeline(plan: str) -> Stream:
        fake.did("pipeline")
        fake.plans.append(json.loads(plan))
        return Stream(fake)

    module = types.ModuleType("ig_py._core")
    module.__dict__.update(CoreError=CoreError, Object=Object, probe=probe, pipeline=pipeline)
    monkeypatch.setitem(sys.modules, "ig_py._core", module)
    import ig_py

    monkeypatch.setattr(ig_py, "_core", module, raising=False)
    return fake
