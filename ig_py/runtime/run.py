"""One run of a gadget: load, open the stream, attach, stream, stop; released in reverse order."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ig_py.errors import IgPyError, KernelError
from ig_py.host import descriptors
from ig_py.host.bpffs import with_bpffs
from ig_py.host.pins import RunPins
from ig_py.host.proc import HostView
from ig_py.host.tracefs import needs_tracefs, with_tracefs
from ig_py.operators.local_manager import FILTER_MAP
from ig_py.operators.parts import LoadParts
from ig_py.operators.running import Host, Running
from ig_py.packetfilter import filtered
from ig_py.records import dataclass, field
from ig_py.runtime.array_reader import ArrayReader
from ig_py.runtime.attach import Attacher
from ig_py.runtime.bounded_load import bounded_load
from ig_py.runtime.budget import BudgetReader, Throttled, budget_constants
from ig_py.runtime.buffers import DEFAULT_MEMORY_LIMIT
from ig_py.runtime.classifiers import passing_on
from ig_py.runtime.image_btf import ImageBtf
from ig_py.runtime.loader import LIMITS, NO_RINGBUF, Loader, LoadSettings
from ig_py.runtime.loss import mixing
from ig_py.runtime.plan import DataSourceOutput, PlanSettings, compile_plan
from ig_py.runtime.prepare import Prepared
from ig_py.runtime.state import NEXT, State, Stopped, StopRequest
from ig_py.runtime.timers import Timers
from ig_py.runtime.verifier_work import VerifierWork

if TYPE_CHECKING:
    from ig_py._core import Batch, Counters, Object, Stream, Writer

IFACE = "operator.oci.ebpf.iface"
"""Parameter of gadgets with classifiers: the host's interface to attach to."""
LONGEST_MS = 3_600_000
"""Longest wait for events; a stop wakes the wait."""
ACCOUNT_SECONDS = 1.0
"""How often the counters are read while events come."""
DRAIN_SECONDS = 2.0
"""Longest time given to events that are still to be rendered when a run ends…"""
LATE_SECONDS = 0.3
"""…and after the time from which on no reader is waited for."""


@dataclass
class RunSettings:
    """What the user asks of one run, beside parameters.

    Attributes:
        outputs: What is rendered, by data source name; none means mode ``none``.
        buffer_size: Bytes of each event map's buffer; None: DEFAULT_BUFFER_SIZE, or what the
            gadget declares where that is more.
        memory_limit: Bytes of samples that may wait to be rendered.
        budget: Events a second of each mount namespace and data source; 0: no limit.
        skip_unsupported: Leave out programs that this kernel cannot run.
    """

    outputs: Mapping[str, DataSourceOutput] = field(default_factory=dict)
    buffer_size: int | None = None
    memory_limit: int = DEFAULT_MEMORY_LIMIT
    budget: int = 0
    skip_unsupported: bool = False


class Run:
    """Runs *prepared* once, in the calling thread, until *stop* is set.

    Args:
        sink: Gets every batch, in the run's thread. With the core's ``Writer`` no Python runs
            while events come.
        warn: Gets what the user should know, one line each.
        on_running: Called when all programs are attached.
        account: Gets the counters so far, once in :data:`ACCOUNT_SECONDS` while events come.
    """

    def __init__(
        self,
        prepared: Prepared,
        settings: RunSettings,
        stop: StopRequest,
        sink: Writer | Callable[[Batch], None],
        warn: Callable[[str], None],
        on_running: Callable[[], None] = lambda: None,
        account: Callable[[Mapping[str, Counters]], None] = lambda _counters: None,
    ) -> None:
        self._prepared = prepared
        self._settings = settings
        self._stop = stop
        self._sink = sink
        self._warn = warn
        self._on_running = on_running
        self._account = account
        self._object: Object | None = None
        self._pins: RunPins | None = None
        self._running: Running | None = None
        self._attacher: Attacher | None = None
        self._entered = 0
        self._host = Host(HostView.from_env())
        self._arrays = ArrayReader(
            prepared.schedules, self._host.open_netns, sink, warn, lambda: self._host.ended
        )
        self._budget: BudgetReader | None = None
        self._counters: dict[str, Counters] = {}
        self._failures: list[Exception] = []
        self.mixed: frozenset[str] = frozenset()
        """Data sources whose losses are of any container, though some are selected."""
        self._produced: deque[Batch] = deque()
        self.state = State.NEW

    def execute(self) -> dict[str, Counters]:
        """The whole run; returns counters by data source name, empty when it never streamed.

        Raises:
            IgPyError: What failed first, after everything was released.
        """
        failure: BaseException | None = None
        try:
            self._bring_up()
            self._move(State.RUNNING)
            self._on_running()
            self._pump()
        except Stopped:
            pass
        except BaseException as err:
            failure = err
        self._move(State.STOPPING)
        self._tear_down()
        self._move(State.CLOSED)
        if failure is not None:
            known = as_error(failure)
            if known is None or known is failure:
                raise failure
            raise known from failure
        if self._failures:
            raise self._failures[0]
        return self._counters

    @property
    def throttled(self) -> Mapping[str, Throttled]:
        """Events over budget by data source, as of the last account; empty without a budget."""
        return self._budget.throttled if self._budget else {}

    @property
    def unseen(self) -> int:
        """Containers that may have events which no data source counts as lost."""
        return self._running.unseen if self._running else 0

    def _move(self, to: State) -> None:
        if to not in NEXT[self.state]:
            raise RuntimeError(f"a run cannot go from {self.state.value} to {to.value}")
        self.state = to

    def _bring_up(self) -> None:
        prepared, context = self._prepared, self._prepared.context
        self._move(State.LOADING)
        descriptors.require(f"running gadget {prepared.spec.name}")
        self._stop.check()
        load = LoadParts()
        for operator in prepared.operators:
            self._entered += 1
            operator.pre_start(context, load, self._host)
            self._stop.check()
        load.constants.update(self._limits())
        if FILTER_MAP in load.maps:
            self.mixed = mixing(prepared.spec)
        loader = None
        if prepared.elf is not None:
            name = prepared.spec.name
            elf = passing_on(filtered(prepared.elf, context.params, name), name)
            loader = self._load(elf, load)
        self._stop.check()
        # The stream is opened before programs are attached: no event is missed.
        stream = self._open_stream(self._object, loader.sizes.buffers if loader else {}, load)
        self._running = running = Running(self._host, stream, self._object, self._emit)
        self._stop.on_stop(stream.wake)
        for operator in prepared.operators:
            operator.start(context, running)
            self._stop.check()
        self._move(State.ATTACHING)
        if loader is not None:
            self._attach(loader)

    def _load(self, elf: bytes, parts: LoadParts) -> Loader:
        prepared = self._prepared
        work = VerifierWork()
        loader = Loader(
            elf,
            prepared.spec,
            parts,
            LoadSettings(
                buffer_size=self._settings.buffer_size,
                values=prepared.values,
                skip_unsupported=self._settings.skip_unsupported,
                no_ringbuf=os.environ.get(NO_RINGBUF) == "1",
            ),
            self._warn,
            ImageBtf(prepared.btfgen, self._host.view, prepared.spec.name),
            work.refused,
        )
        if pinned := [declared.name for declared in prepared.spec.maps if declared.pinned]:
            self._pins = pins = RunPins(pinned)

            def load() -> Object:
                return with_bpffs(lambda: pins.around(loader.load))
        else:
            load = loader.load
        self._object = bounded_load(load, prepared.spec.name, self._stop, work)
        return loader

    def _attach(self, loader: Loader) -> None:
        prepared = self._prepared
        assert self._object is not None
        interface = prepared.context.param(IFACE)
        self._attacher = attacher = Attacher(self._object, prepared.spec, self._host, interface)
        if any(needs_tracefs(p.section) for p in prepared.spec.programs if not p.disabled):
            with_tracefs(lambda: loader.attach(attacher, self._stop.check))
        else:
            loader.attach(attacher, self._stop.check)
        # Outside of with_tracefs(): a thread that is started there stays in its private mount
        # namespace, and keeps every file system that is mounted now from being unmounted.
        attacher.attach_to_targets(self._stop.check)

    def _limits(self) -> dict[str, int]:
        if not self._settings.budget:
            return {}
        constants = budget_constants(self._prepared.spec, self._settings.budget)
        self._budget = BudgetReader(self._prepared.spec, self._host.container_of)
        return constants

    def _open_stream(
        self, obj: Object | None, buffer_sizes: Mapping[str, int], load: LoadParts
    ) -> Stream:
        from ig_py._core import CoreError

        plan = compile_plan(
            self._prepared.spec,
            self._prepared.context.plan,
            PlanSettings(
                outputs=self._settings.outputs,
                perf_bytes=buffer_sizes,
                backlog_bytes=self._settings.memory_limit,
                proc=self._host.view.proc,
                pidns=self._host.view.pidns,
            ),
        )
        try:
            if obj is None:
                from ig_py._core import pipeline

                return pipeline(plan, load.guest)
            if load.guest is None:
                return obj.stream(plan)
            return obj.stream(plan, load.guest, load.maps.get(FILTER_MAP))
        except CoreError as err:
            raise KernelError(
                f"opening the buffers of gadget {self._prepared.spec.name}: {err.message}",
                remedy=LIMITS.get(err.kind, ""),
            ) from err

    def _pump(self) -> None:
        assert self._running is not None
        stream = self._running.stream
        timers = Timers(self._running.timers)
        self._arrays.start()
        due = time.monotonic() + ACCOUNT_SECONDS
        told = True
        while not self._stop:
            self._arrays.run(stream)
            timers.run()
            left = LONGEST_MS if told else max(0, int((due - time.monotonic()) * 1000) + 1)
            wait = self._arrays.wait_ms(timers.wait_ms(left))
            stream.pump(self._sink, wait, busy_ms=int(ACCOUNT_SECONDS * 1000))
            self._take_produced()
            told = time.monotonic() >= due
            if told:
                self._read_budget()
                for account in self._running.accounts:
                    account()
                self._account(self._read_counters(stream))
                due = time.monotonic() + ACCOUNT_SECONDS

    def _take_produced(self) -> None:
        while self._produced:
            self._sink(self._produced.popleft())

    def _tear_down(self) -> None:
        entered = list(reversed(self._prepared.operators[: self._entered]))
        running = self._running
        if running is not None:
            for operator in entered:
                self._try(operator.pre_stop, running)
        if self._attacher is not None:
            self._try(self._attacher.stop)
        if self._object is not None:
            self._try(self._object.detach)
        if running is not None:
            self._try(self._drain, running.stream)
            self._try(self._arrays.flush, running.stream)
            self._try(self._drain_operators, running)
            self._try(self._count, running.stream)
            self._try(self._read_budget)
        for operator in entered:
            self._try(operator.stop)
        if running is not None:
            self._try(running.stream.close)
        if self._object is not None:
            self._try(self._object.close)
        if self._pins is not None:
            self._try(self._pins.release)

    def _emit(self, datasource: str, samples: Sequence[bytes]) -> None:
        assert self._running is not None
        stream = self._running.stream
        batch = stream.push(datasource, samples)
        if batch.data or batch.events:
            # The sink is called in the run's thread only; this may be an operator's.
            self._produced.append(batch)
            stream.wake()

    def _try(self, work: Callable[..., object], *args: object) -> None:
        """Do *work*; its failure is kept, so that the rest is released too."""
        from ig_py._core import CoreError

        try:
            work(*args)
        except CoreError as err:
            self._failures.append(KernelError(f"stopping the gadget: {err.message}"))
        except Exception as err:
            self._failures.append(err)

    def _drain(self, stream: Stream) -> None:
        """Read what the programs wrote before they were detached."""
        begun = time.monotonic()
        late = max(begun, self._stop.deadline) + LATE_SECONDS
        deadline = min(begun + DRAIN_SECONDS, late)
        while stream.pump(self._sink, 0):
            if time.monotonic() > deadline:
                if left := stream.give_up():
                    self._warn(
                        f"{left} events were still to be rendered {deadline - begun:.1f} s after"
                        " the end: they are lost"
                    )
                return

    def _drain_operators(self, running: Running) -> None:
        # In ascending order: the sums of metrics have the events whose containers are known late.
        for operator in self._prepared.operators[: self._entered]:
            if operator.drained(running):
                self._drain(running.stream)
        self._arrays.show_released(running.stream)

    def _count(self, stream: Stream) -> None:
        self._take_produced()
        self._counters = self._read_counters(stream)
        if undecided := stream.undecided():
            self._warn(
                f"{undecided} events are missing: --filter-expr has no value for them"
                " (a division by zero, a text that is no number, ...)"
            )
        if refused := stream.refused():
            self._warn(
                f"{refused} events are missing: an endpoint of them has an address whose version is"
                " neither 4 nor 6"
            )
        if lost := stream.lost_stacks():
            self._warn(
                f"{lost} stacks have no names: the kernel had no room for them, their process"
                " ended before its files were read, or reading takes too much time"
            )

    def _read_counters(self, stream: Stream) -> dict[str, Counters]:
        counters = stream.counters()
        for ds in self._prepared.spec.datasources:
            if ds.source == "operator" and ds.name in counters:
                # Its samples are made in this process: none is lost.
                counters[ds.name]["lost"] = 0
        return counters

    def _read_budget(self) -> None:
        if self._budget is not None and self._object is not None:
            self._budget.read(self._object)


def as_error(err: BaseException) -> IgPyError | None:
    """*err* as an IgPyError, also when it is the core's or no file can be opened any more; None for
    any other."""
    from ig_py._core import CoreError

    if isinstance(err, IgPyError):
        return err
    if isinstance(err, CoreError):
        what = f"running the gadget: {err.message}"
        return KernelError(what, remedy=LIMITS.get(err.kind, ""), detail=err.log)
    if isinstance(err, OSError) and err.errno in descriptors.USED_UP:
        place = f" {err.filename}" if err.filename else ""
        return KernelError(
            f"running the gadget: opening{place}: {err.strerror}", remedy=descriptors.REMEDY
        )
    return None
