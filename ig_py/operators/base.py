"""What an operator is: a stage that declares fields and native steps, and may act at run time.

Instantiation is pure (any OS, also for ``image inspect``); only ``pre_start``
and later touch the machine. Order of life: instantiate (ascending priority,
then name) → pre_start → start → … → pre_stop, stop (descending). Steps are
sorted by their own priority, stable (docs/reference/operators.md#order).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ig_py.containers.targets import Targets
from ig_py.gadget.spec import GadgetSpec, ParamSpec
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py._core import Map, Object, Stream


@dataclass(frozen=True)
class Step:
    """One native pipeline step: *body* is an entry of the plan's ``steps`` (docs/plan.md)."""

    priority: int
    body: dict[str, Any]


@dataclass(frozen=True)
class KernelStruct:
    """A struct to relocate objects against as if the kernel had it.

    Members are (name, offset, width of a number, elements; 0 for no array).
    """

    name: str
    size: int
    members: tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Timer:
    """*work* at intervals of *interval* ns, first after *first* ns; *times* 0: without end."""

    interval: int
    work: Callable[[], None]
    first: int
    times: int = 0


@dataclass
class Context:
    """One run (or inspection) of one gadget, as its operators see it.

    ``params`` maps full parameter names (``operator.LocalManager.host``) to
    values as text. ``image`` is what the gadget is run as. ``steps`` is filled while
    instantiating, by data source name. ``object`` (None for a gadget without programs)
    and ``stream`` are live between pre_start and stop.
    ``constants`` (variable name → value) and ``maps`` (map name → replacement)
    are what operators hand to the loader in pre_start, as are ``kernel_structs`` and
    ``value_sizes`` (map name → bytes of a value). ``filters`` are the
    plan's filters by data source name, filled while instantiating, as are ``conditions``,
    ``sorts`` and ``limits`` of arrays, ``metrics``, and ``symbols`` (docs/plan.md).
    ``open_netns`` opens the network namespaces that are watched (the host's,
    where nobody says which): descriptors that the caller closes.
    ``emit`` gives samples to a data source that an operator made, from
    :meth:`Operator.start` to its end, in any thread.
    ``targets`` are the containers (and the host) to attach programs to, kept while the
    run goes on by whoever knows them. ``container_of`` names the container of a
    mount namespace, "" when there is none or nobody knows; ``selects`` says whether what
    is read of a mount namespace is to be shown.
    """

    spec: GadgetSpec
    params: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    steps: dict[str, list[Step]] = field(default_factory=dict)
    filters: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    conditions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sorts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    symbols: dict[str, Any] = field(default_factory=dict)
    timers: list[Timer] = field(default_factory=list)
    constants: dict[str, bool | int | bytes] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    kernel_structs: list[KernelStruct] = field(default_factory=list)
    value_sizes: dict[str, int] = field(default_factory=dict)
    object: Object | None = None
    stream: Stream | None = None
    targets: Targets = field(default_factory=Targets)
    container_of: Callable[[int], str] = lambda _mntns: ""
    selects: Callable[[int], bool] = lambda _mntns: True
    open_netns: Callable[[], list[int]] = lambda: _host_netns()

    emit: Callable[[str, Sequence[bytes]], None] = lambda _datasource, _samples: None

    def every(
        self,
        interval: int,
        work: Callable[[], None],
        *,
        first: int | None = None,
        times: int = 0,
    ) -> None:
        """While the gadget runs, call *work* each *interval* ns, in the run's thread.

        *first*: ns until the first call, else an interval. *times* 0: without end.
        """
        self.timers.append(Timer(interval, work, interval if first is None else first, times))

    def add_step(self, datasource: str, priority: int, **body: Any) -> None:
        self.steps.setdefault(datasource, []).append(Step(priority, body))

    def param(self, full_name: str, default: str = "") -> str:
        return self.params.get(full_name, default)


def _host_netns() -> list[int]:
    from ig_py.host.proc import HostView, open_netns

    return open_netns(HostView.from_env())


class Operator:
    """Base of every operator; a fresh instance serves one run."""

    name: ClassVar[str]
    priority: ClassVar[int]

    @classmethod
    def global_params(cls) -> list[ParamSpec]:
        """Parameters known before any gadget is (prefix ``operator.<name>.``)."""
        return []

    def instantiate(self, ctx: Context) -> bool:
        """Declare fields, steps and ``ctx.spec.params``; False: not active for this gadget."""
        return False

    def pre_start(self, ctx: Context) -> None:
        """Before the object is loaded: set ``ctx.constants`` and ``ctx.maps``."""

    def start(self, ctx: Context) -> None:
        """After load, with ``ctx.stream`` open, before programs are attached."""

    def pre_stop(self, ctx: Context) -> None:
        """While events still flow."""

    def drained(self, ctx: Context) -> bool:
        """After the programs are detached and their buffers read, before events are counted;
        True when there may be more to read from the stream now."""
        return False

    def stop(self, ctx: Context) -> None:
        """Release everything; called even when a later start failed."""
