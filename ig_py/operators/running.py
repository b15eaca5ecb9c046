"""What operators may use of the live machine: the host, and the gadget that runs on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ig_py.containers.targets import Targets
from ig_py.host.proc import HostView, open_netns
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py._core import Object, Stream
    from ig_py.containers.ended_rows import EndedRows


class ContainerLookup(Protocol):
    """Answers about containers, by mount namespace; from any thread."""

    def name_of(self, mntns: int) -> str:
        """The container's name, or its id without one; "" when there is no such container."""

    def selects(self, mntns: int) -> bool:
        """Whether what is read of this mount namespace is to be shown."""

    def open_netns(self) -> list[int]:
        """Descriptors of the network namespaces to look into; the caller closes them."""


class Host:
    """The machine of one run. One operator at most answers for its containers.

    Attributes:
        view: The host's /proc and cgroups.
        targets: The containers (and the host, if it is traced) that programs attach to one by
            one; the operator that provides the containers keeps them up to date.
        ended: Namespaces whose rows are to be taken out of the gadget's maps; None: no maps have
            rows of namespaces.
    """

    def __init__(self, view: HostView) -> None:
        self.view = view
        self.targets = Targets()
        self.ended: EndedRows | None = None
        self._containers: ContainerLookup | None = None

    def provide_containers(self, containers: ContainerLookup) -> None:
        """From now on *containers* answers :meth:`container_of` and its siblings.

        Raises:
            RuntimeError: Another operator provides them already.
        """
        if self._containers is not None:
            raise RuntimeError("two operators provide the containers of one run")
        self._containers = containers

    def container_of(self, mntns: int) -> str:
        """Name of the container with mount namespace *mntns*; "" when none is known."""
        return self._containers.name_of(mntns) if self._containers else ""

    def selects(self, mntns: int) -> bool:
        """Whether what is read of mount namespace *mntns* is to be shown (default: all is)."""
        return self._containers.selects(mntns) if self._containers else True

    def open_netns(self) -> list[int]:
        """Descriptors of the watched network namespaces, which the caller closes.

        Without containers: the host's.
        """
        return self._containers.open_netns() if self._containers else open_netns(self.view)


@dataclass(frozen=True)
class Timer:
    """*work* at intervals of *interval* ns, first after *first* ns; *times* 0: without end."""

    interval: int
    work: Callable[[], None]
    first: int
    times: int = 0


@dataclass
class Running:
    """A gadget that is loaded, from ``Operator.start`` until ``Operator.stop``.

    Attributes:
        host: Where it runs.
        stream: The pipeline of its data sources.
        object: Its eBPF object; None for a gadget without programs.
        emit: Gives samples to a data source that an operator made; from any thread.
        timers: What :meth:`every` registered.
        accounts: What is called, in the run's thread, when the counters are read.
        unseen: Containers that may have events which no data source counts as lost.
    """

    host: Host
    stream: Stream
    object: Object | None
    emit: Callable[[str, Sequence[bytes]], None]
    timers: list[Timer] = field(default_factory=list)
    accounts: list[Callable[[], Any]] = field(default_factory=list)
    unseen: int = 0

    def every(
        self,
        interval: int,
        work: Callable[[], None],
        *,
        first: int | None = None,
        times: int = 0,
    ) -> None:
        """Call *work* each *interval* ns in the run's thread; only ``Operator.start`` may ask.

        Args:
            first: Nanoseconds until the first call (default: one interval).
            times: Number of calls (default 0: without end).
        """
        self.timers.append(Timer(interval, work, interval if first is None else first, times))
