"""Runs one declarative test: the gadget in this process, its workload beside it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ig_py.errors import IgPyError
from ig_py.oci import media
from ig_py.oci.artifact import Artifact, Descriptor, Layer
from ig_py.runtime.plan import DataSourceOutput
from ig_py.runtime.prepare import Gadget, prepare, read
from ig_py.runtime.run import Run, RunSettings
from ig_py.runtime.state import StopRequest
from support.gadget_build import (
    gadget_object,
    guest_module,
    has_guest,
    has_program,
    workload_program,
)
from support.gadget_format import GadgetTest, filled, matches
from support.waiting import deadline

_START_SECONDS = 30
_STEP_SECONDS = 0.05
_REPEAT_SECONDS = 0.3
_SETTLE_SECONDS = 0.3
"""How long an event that must never come is waited for."""
_SHOWN = 20


def artifact(name: str, config: bytes, obj: bytes | None, wasm: bytes | None = None) -> Artifact:
    """An image that is in no store."""
    layers = ((media.EBPF_LAYER, obj), (media.WASM_LAYER, wasm))

    def descriptor(kind: str, data: bytes) -> Descriptor:
        return Descriptor(kind, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))

    return Artifact(
        reference=name,
        normalized=name,
        digest="",
        manifest_raw=b"",
        manifest={},
        config=config,
        config_descriptor=descriptor(media.CONFIG_YAML, config),
        layers=tuple(Layer(descriptor(kind, raw), raw) for kind, raw in layers if raw is not None),
        origin="source",
        annotations={},
    )


class GadgetUnderTest:
    """One run of a gadget in a thread of its own; a context manager that ends it."""

    def __init__(self, gadget: Gadget, params: Mapping[str, str]) -> None:
        known = {p.key: p.full_name for p in gadget.params}
        known |= {p.alternative_key: p.full_name for p in gadget.params if p.alternative_key}
        prepared = prepare(gadget, {known.get(key, key): value for key, value in params.items()})
        self.notices: list[str] = []
        self.failure: BaseException | None = None
        self._lock = threading.Lock()
        self._events: dict[str, list[Any]] = {ds.name: [] for ds in prepared.spec.datasources}
        self._running = threading.Event()
        self._stop = StopRequest()
        outputs = {name: DataSourceOutput(mode="json") for name in self._events}
        self._run = Run(
            prepared,
            RunSettings(outputs=outputs),
            self._stop,
            sink=self._take,
            warn=self.notices.append,
            on_running=self._running.set,
        )
        self._thread = threading.Thread(target=self._execute, name="gadget")

    def __enter__(self) -> GadgetUnderTest:
        self._thread.start()
        end = time.monotonic() + deadline(_START_SECONDS)
        while not self._running.wait(_STEP_SECONDS) and self._thread.is_alive():
            assert time.monotonic() < end, "the gadget does not get to run"
        return self

    def __exit__(self, *_args: object) -> None:
        self.end()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def events(self) -> dict[str, list[Any]]:
        """What came so far by data source; the elements of arrays one by one."""
        with self._lock:
            return {name: list(found) for name, found in self._events.items()}

    def _execute(self) -> None:
        try:
            self._run.execute()
        except BaseException as error:
            self.failure = error

    def _take(self, batch: Any) -> None:
        found = []
        for line in bytes(batch.data).splitlines():
            event = json.loads(line)
            found += event if isinstance(event, list) else [event]
        with self._lock:
            self._events.setdefault(batch.datasource, []).extend(found)


def load(test: GadgetTest, directory: Path, places: Mapping[str, str]) -> Gadget:
    """The gadget of *test*, with what the test says of its programs."""
    config = (test.directory / "gadget.yaml").read_bytes()
    if test.programs:
        document = yaml.safe_load(config)
        for name, given in filled(dict(test.programs), places).items():
            document.setdefault("programs", {}).setdefault(name, {}).update(given)
        config = yaml.safe_dump(document).encode()
    obj = gadget_object(test.gadget, directory) if has_program(test.gadget) else None
    wasm = guest_module(test.gadget, directory) if has_guest(test.gadget) else None
    image = artifact(test.gadget, config, obj, wasm)
    return read(image)


def run_test(test: GadgetTest, directory: Path) -> None:
    """Do what *test* says in *directory*; AssertionError tells what was missing."""
    program = workload_program(test.gadget, directory)
    places = {
        "python": sys.executable,
        "dir": str(directory),
        "gadget": str(test.directory),
        "program": str(program or ""),
        "self": str(os.getpid()),
    }
    with _environment(test.env), _background(test, places):
        try:
            gadget = load(test, directory, places)
            given = {k: str(filled(v, places)) for k, v in test.params.items()}
            if any(p.key == "host" for p in gadget.params):
                given.setdefault("host", "true")
            under_test = GadgetUnderTest(gadget, given)
        except IgPyError as error:
            _failed_as_expected(test, error)
            return
        with under_test:
            _watch(test, under_test, places)
        _failed_as_expected(test, under_test.failure)
        heard = "\n".join(under_test.notices)
        for text in test.says:
            assert text in heard, f"no message has {text!r}:\n{heard}"


def _watch(test: GadgetTest, gadget: GadgetUnderTest, places: dict[str, str]) -> None:
    if test.fails or gadget.failure:
        return
    _work(test, places)
    end = time.monotonic() + deadline(test.seconds)
    again = time.monotonic() + _REPEAT_SECONDS
    while lacking := _lacking(test, gadget.events(), places):
        assert gadget.failure is None, gadget.failure
        assert time.monotonic() < end, _report(lacking, gadget)
        time.sleep(_STEP_SECONDS)
        if test.repeat and time.monotonic() > again:
            _work(test, places)
            again = time.monotonic() + _REPEAT_SECONDS
    if test.never:
        time.sleep(_SETTLE_SECONDS)
        gadget.end()
    for name, unwanted in test.never.items():
        for wanted in filled(unwanted, places):
            found = [e for e in gadget.events().get(name, []) if matches(wanted, e)]
            assert not found, f"{name}: {wanted} must never come, but {found[:_SHOWN]} came"


def _lacking(
    test: GadgetTest, events: dict[str, list[Any]], places: Mapping[str, str]
) -> list[Any]:
    return [
        (name, wanted)
        for name, subsets in test.expect.items()
        for wanted in filled(subsets, places)
        if not any(matches(wanted, event) for event in events.get(name, []))
    ]


def _report(lacking: list[Any], gadget: GadgetUnderTest) -> str:
    lines = [f"{name}: no event has {wanted}" for name, wanted in lacking]
    for name, events in gadget.events().items():
        lines += [f"{name}: {len(events)} events came, the last ones:"]
        lines += [f"  {event}" for event in events[-_SHOWN:]]
    return "\n".join(lines + gadget.notices)


def _failed_as_expected(test: GadgetTest, failure: BaseException | None) -> None:
    if not test.fails:
        if failure is not None:
            raise failure
        return
    assert isinstance(failure, IgPyError), f"expected an error, got {failure!r}"
    assert re.search(test.fails, str(failure)), f"{test.fails!r} is not in: {failure}"


def _work(test: GadgetTest, places: dict[str, str]) -> None:
    for command in test.workload:
        argv = [str(word) for word in filled(command, places)]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        places["pid"] = str(process.pid)
        try:
            process.communicate(timeout=deadline(60))
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, f"{argv} ended with {process.returncode}"


@contextmanager
def _background(test: GadgetTest, places: dict[str, str]) -> Iterator[None]:
    if not test.background:
        yield
        return
    argv = [str(word) for word in filled(test.background, places)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    places["background"] = str(process.pid)
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), f"{argv} ended before it was ready"
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
