"""Discovery: the runtimes' clients, the cgroup scout and the exit watch, feeding one collection.

A container enters the collection as soon as two facts meet, whichever comes
first: what it is (an engine's create event or listing) and which process is
its init (the cgroup scout, or the engine's start event). It leaves when its
pidfd says that init ended; only where pids are of another namespace than
ours, on the engine's word or when its /proc entry changed.
"""

from __future__ import annotations

import importlib
import logging
import os
import resource
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py.containers import oci_config as oci
from ig_py.containers.cgroups import CgroupScout
from ig_py.containers.collection import GRACE_SECONDS, MAX_CONTAINERS, ContainerCollection
from ig_py.containers.engines.client import RuntimeClient, RuntimeConfig, Sink
from ig_py.containers.engines.unmanaged import Alone
from ig_py.containers.model import Container
from ig_py.containers.runtimes import RuntimeRuns
from ig_py.containers.sources import Source
from ig_py.errors import ContainerError
from ig_py.host.proc import HostView, Process, ProcessGone, alive
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass, replace

if TYPE_CHECKING:
    from ig_py.containers.admission import Admission

log = logging.getLogger(__name__)

PROC_POLL_SECONDS = 1.0
"""How often processes without a pidfd are looked at."""
MAX_UNCLAIMED = 4096
"""Inits found for which no engine has spoken yet."""

_CLIENTS = {
    ("docker", "internal"): ("ig_py.containers.engines.docker", "DockerClient"),
    ("containerd", "internal"): ("ig_py.containers.engines.containerd", "ContainerdClient"),
    ("podman", "internal"): ("ig_py.containers.engines.podman", "PodmanClient"),
    ("podman", "cri"): ("ig_py.containers.engines.podman", "PodmanClient"),
}
_CRI_CLIENT = ("ig_py.containers.engines.cri", "CriClient")


def make_client(config: RuntimeConfig, sink: Sink) -> RuntimeClient:
    """The client that *config* asks for, not started."""
    module, name = _CLIENTS.get((config.name, config.protocol), _CRI_CLIENT)
    client: RuntimeClient = getattr(importlib.import_module(module), name)(config, sink)
    return client


@dataclass(frozen=True, slots=True)
class _Live:
    pid: int
    pidfd: int
    readable: bool
    """Whether its namespaces may be read."""


class Discovery:
    """Implements :class:`~ig_py.containers.engines.client.Sink`. Use once: start, then stop."""

    def __init__(
        self,
        configs: Iterable[RuntimeConfig],
        view: HostView | None = None,
        collection: ContainerCollection | None = None,
        *,
        engineless: bool = False,
        oci_configs: bool = False,
    ) -> None:
        """*engineless*: report containers that no engine knows as well.
        *oci_configs*: keep each container's config.json (about 10 kB), and announce
        containers that are about to be made."""
        self._oci_configs = oci_configs
        self.engineless = engineless
        self.view = view or HostView.from_env()
        self.collection = ContainerCollection() if collection is None else collection
        self.clients: list[RuntimeClient] = [make_client(c, self) for c in configs]
        self._reactor = Reactor("ig-containers")
        self._scout = CgroupScout(
            self.view, self._reactor, lambda name, pid: self.hint(name, pid, Source.CGROUPS)
        )
        self._alone = Alone(
            self.view, self._reactor, self, describe=engineless, announce=oci_configs
        )
        self.runs = RuntimeRuns(self.view, self._reactor)
        self._lock = threading.RLock()
        self._records: dict[str, Container] = {}
        self._inits: dict[str, tuple[int, Source]] = {}
        self._live: dict[str, _Live] = {}
        self._nobodys: set[str] = set()
        self._ignored: dict[str, None] = {}
        self._expiry_armed = False
        self._unreadable_said = False
        self.firsts: dict[Source, int] = {s: 0 for s in Source if s is not Source.RUNTIMES}
        """Containers by the source that told first which process is their init."""
        self.untold = 0
        """Containers that an engine which answers has not told of."""
        self.admission: Admission | None = None
        """Set by whoever has the kernel's scout; not before :meth:`start`."""

    def start(self) -> None:
        """Begin; returns at once. Containers appear in ``collection``."""
        _raise_descriptor_limit()
        self._scout.start()
        self._alone.start()
        self.runs.start()
        self.collection.subscribe(self.runs, self.runs.changed)
        self._reactor.start()
        if not self.view.same_pidns:
            self._reactor.later(PROC_POLL_SECONDS, self._look_at_processes)
        for client in self.clients:
            client.start()

    def wait_listed(self, seconds: float) -> bool:
        """Wait until every engine's running containers are in, or no engine
        answers; False when *seconds* were not enough for one of them."""
        deadline = time.monotonic() + seconds

        def left() -> float:
            return max(0.0, deadline - time.monotonic())

        listed = all([client.wait_listed(left()) for client in self.clients])
        return self._alone.wait_scanned(left()) and listed

    @property
    def late(self) -> int:
        """Containers that only the look through all processes found."""
        return self._alone.late

    def cgroup_status(self) -> tuple[bool, str]:
        """Whether new control groups are watched; where, or why not."""
        return self._scout.status()

    def state_status(self) -> tuple[bool, str]:
        """Whether the runtimes' state is watched; where, or why not."""
        return self._alone.status()

    @property
    def reactor(self) -> Reactor:
        return self._reactor

    @property
    def connected(self) -> bool:
        """True when some engine answers."""
        return any(client.connected for client in self.clients)

    def stop(self) -> None:
        """End all threads (about a second at most) and let go of every descriptor."""
        for client in self.clients:
            client.stop()
        if self.admission is not None:
            self.admission.close()
        self._reactor.stop()
        self._scout.stop()
        self._alone.stop()
        self.collection.unsubscribe(self.runs)
        self.runs.stop()
        with self._lock:
            for live in self._live.values():
                _close(live.pidfd)
            self._live.clear()
            self.collection.close()

    # Sink: what clients report.

    def describe(self, container: Container) -> None:
        with self._lock:
            record = self._records.get(container.id)
            if record is None and len(self._records) >= MAX_CONTAINERS:
                return
            if record and record.runtime.name == "docker" != container.runtime.name:
                # Docker's containers are containerd's as well, which knows no names.
                return
            self._records[container.id] = container
            self._nobodys.discard(container.id)
            pid, source = self._inits.pop(container.id, (0, Source.ENGINE))
            known = self.collection.get(container.id)
            if known:
                self.collection.update(_merged(known, container))
        if pid and not known:
            self._admit(container, pid, source)
        if self.admission is not None and not known:
            self.admission.engine_said(container.id)

    def ignore(self, container_id: str) -> None:
        with self._lock:
            while len(self._ignored) >= MAX_UNCLAIMED:
                del self._ignored[next(iter(self._ignored))]
            self._ignored[container_id] = None

    def started(self, container: Container, pid: int) -> None:
        self.describe(container)
        self._admit(container, pid, Source.ENGINE)

    def renamed(self, container_id: str, name: str) -> None:
        with self._lock:
            record = self._records.get(container_id)
        if record and name:
            runtime = replace(record.runtime, container_name=name)
            self.describe(replace(record, runtime=runtime))

    def died(self, container_id: str) -> None:
        with self._lock:
            live = self._live.get(container_id)
            # A late word about an earlier life of a container that was restarted.
            if live and (live.pidfd < 0 or not alive(live.pidfd)):
                self._end(container_id)

    def forget(self, container_id: str) -> None:
        self.died(container_id)
        with self._lock:
            record = self._records.get(container_id)
            self._inits.pop(container_id, None)
            self._ignored.pop(container_id, None)
        if record is not None:
            # Events of a short life may still wait for what was said of it.
            self._reactor.later(GRACE_SECONDS, lambda: self._drop(container_id, record))

    def _drop(self, container_id: str, record: Container) -> None:
        with self._lock:
            if self._records.get(container_id) is record and container_id not in self._live:
                del self._records[container_id]

    def find_init(self, container_id: str) -> int | None:
        return self._scout.init_pid(container_id)

    def live(self, container_id: str) -> bool:
        with self._lock:
            live = self._live.get(container_id)
            return live is not None and alive(live.pidfd)

    def owns(self, container_id: str, pid: int) -> bool:
        return container_id in self.view.cgroups(pid).raw

    # Finder: what the admission of new namespaces asks.

    def record(self, container_id: str) -> Container | None:
        return self._records.get(container_id)

    def current(self, container_id: str) -> Container | None:
        with self._lock:
            return self.collection.get(container_id) if self.live(container_id) else None

    def by_mntns(self, mntns: int) -> Container | None:
        container = self.collection.by_mntns(mntns)
        return self.current(container.id) if container else None

    def admit(self, container: Container, pid: int, mntns: int) -> None:
        self._admit(container, pid, Source.KERNEL, mntns)

    def expects(self, runtime: str) -> bool:
        clients = (c for c in self.clients if not runtime or c.name == runtime)
        return any(client.connected for client in clients)

    def silent(self, runtime: str) -> bool:
        own = [client for client in self.clients if client.name == runtime]
        return any(not client.connected for client in own or self.clients)

    def described(self, container_id: str, runtime: str, pid: int, bundle: str) -> Container | None:
        return self._alone.described(container_id, runtime, pid, bundle)

    def admit_ended(self, container: Container) -> bool:
        with self._lock:
            if container.id in self._live or not self.collection.add(container):
                return False
            self._forget_soon(container.id)
            return True

    # Owner: what the runtimes' state and the processes tell.

    def asked(self, runtime: str) -> bool:
        return any(client.name == runtime for client in self.clients)

    def asking(self, runtime: str) -> bool:
        clients = (client for client in self.clients if client.name == runtime)
        return any(not client.connected and not client.error for client in clients)

    def answers(self, runtime: str) -> bool:
        return any(client.connected for client in self.clients if client.name == runtime)

    def restricted(self, runtime: str) -> bool:
        return any(c.name == runtime and c.config.namespaces for c in self.clients)

    def ignored(self, container_id: str) -> bool:
        return container_id in self._ignored

    def known(self, container_id: str) -> bool:
        return container_id in self._ignored or self.live(container_id)

    def nobodys(self, container: Container, pid: int, source: Source, mntns: int = 0) -> None:
        with self._lock:
            record = self._records.get(container.id)
        if record is None:
            self.describe(container)
            with self._lock:
                self._nobodys.add(container.id)
        if self._admit(record or container, pid, source, mntns) and source is Source.PROCESSES:
            self.untold += self.answers(container.runtime.name)

    def announce(self, container: Container) -> None:
        self.collection.announce(container)

    # The reactor's thread.

    def hint(self, container_id: str, pid: int, source: Source) -> None:
        with self._lock:
            record = self._records.get(container_id)
            if record is None:
                while len(self._inits) >= MAX_UNCLAIMED:
                    del self._inits[next(iter(self._inits))]
                self._inits[container_id] = (pid, source)
        if record:
            self._admit(record, pid, source)

    def _exited(self, container_id: str, pidfd: int) -> None:
        with self._lock:
            live = self._live.get(container_id)
            # The number may already be another descriptor's: ask it again.
            if live and live.pidfd == pidfd and not alive(pidfd):
                self._end(container_id)

    def _look_at_processes(self) -> None:
        with self._lock:
            for container_id in list(self._live):
                container = self.collection.get(container_id)
                if container is not None and not self._runs(container):
                    self._end(container_id)
        self._reactor.later(PROC_POLL_SECONDS, self._look_at_processes)

    def _runs(self, container: Container) -> bool:
        pid = container.runtime.pid
        if self._live[container.id].readable:
            return self.view.namespace(pid, "mnt") == container.mntns
        return self.view.status(pid).get("State", "Z")[:1] not in ("Z", "X")

    def _expire(self) -> None:
        with self._lock:
            left = self.collection.expire()
            self._expiry_armed = left is not None
        if left is not None:
            self._reactor.later(left, self._expire)

    # Any thread.

    def _admit(self, container: Container, pid: int, source: Source, mntns: int = 0) -> bool:
        """False when it was in already, or is not to be had. *mntns*: as the kernel told."""
        try:
            process = self.view.open(pid)
        except ProcessGone as error:
            log.debug("container %.12s: %s", container.id, error)
            return False
        except ContainerError as error:
            log.warning("container %.12s is not traced: %s", container.id, error)
            return False
        complete = self._complete(container, process)
        if complete is None:
            process.close()
            return False
        readable = bool(process.mntns)
        container = complete if readable else replace(complete, mntns=mntns)
        if not container.mntns:
            self._say_unreadable(container)
        with self._lock:
            known = self.collection.get(container.id) if self.live(container.id) else None
            # One that nothing was known of but its process is taken in anew.
            same = known is not None and (known.mntns or not container.mntns)
            if same or self._had(container):
                process.close()
                return False
            if container.id in self._live:
                self._end(container.id)
            if not self.collection.add(container, process.pins):
                process.close()
                return False
            self._live[container.id] = _Live(pid, process.pidfd, readable)
            if process.pidfd >= 0:
                self._reactor.watch(
                    process.pidfd, lambda: self._exited(container.id, process.pidfd)
                )
            self.firsts[source] += 1
            return True

    def _had(self, container: Container) -> bool:
        """Was this very life in already? It may have ended since somebody else saw it alive; its
        namespace is pinned for the grace time, so that the number is nobody else's."""
        found = self.collection.by_mntns(container.mntns) if container.mntns else None
        return (
            found is not None
            and found.id == container.id
            and found.runtime.pid == container.runtime.pid
        )

    def _say_unreadable(self, container: Container) -> None:
        if self._unreadable_said:
            return
        self._unreadable_said = True
        log.warning(
            "the namespaces of container %a may not be read, nor perhaps those of others: they are"
            " traced only if they start while this runs; CAP_SYS_PTRACE allows it",
            container.runtime.container_name or container.id[:12],
        )

    def _complete(self, container: Container, process: Process) -> Container | None:
        """None for what turns out to be a pod's sandbox."""
        if self._oci_configs:
            config = oci.read_config(self.view, process.pid, container.id, container.bundle)
            annotated = oci.annotated(container, oci.notes_of(config))
            if annotated is None:
                return None
            container = replace(annotated, oci_config=config)
        host_network = container.host_network
        if process.netns and self.view.host_netns is not None:
            host_network = process.netns == self.view.host_netns
        mount = self.view.cgroup2_mount() if process.cgroups.v2 else ""
        path = f"{mount}{process.cgroups.v2}" if mount else ""
        try:
            # kernfs gives a cgroup's 64-bit id as its inode number.
            cgroup_id = Path(path).stat().st_ino if path else 0
        except OSError:
            path, cgroup_id = "", 0
        return replace(
            container,
            bundle="",
            runtime=replace(container.runtime, pid=process.pid, started_at=process.started_at),
            mntns=process.mntns,
            netns=process.netns,
            host_network=host_network,
            cgroup_path=path,
            cgroup_id=cgroup_id,
            cgroup_v1=process.cgroups.v1,
            cgroup_v2=process.cgroups.v2,
        )

    def _end(self, container_id: str) -> None:
        """With the lock held."""
        live = self._live.pop(container_id)
        if live.pidfd >= 0:
            self._reactor.unwatch(live.pidfd)
            os.close(live.pidfd)
        self._forget_soon(container_id)

    def _forget_soon(self, container_id: str) -> None:
        self.collection.remove(container_id)
        if container_id in self._nobodys:
            # Nobody else will say that it does not exist any more.
            self._reactor.later(GRACE_SECONDS, lambda: self._unclaimed(container_id))
        if not self._expiry_armed:
            self._expiry_armed = True
            self._reactor.soon(self._expire)

    def _unclaimed(self, container_id: str) -> None:
        with self._lock:
            if container_id in self._nobodys and container_id not in self._live:
                self._nobodys.discard(container_id)
                self._records.pop(container_id, None)


def _merged(live: Container, news: Container) -> Container:
    """*news* of an engine about a container whose process is known."""
    runtime = replace(
        news.runtime,
        pid=live.runtime.pid,
        started_at=live.runtime.started_at,
        image_name=news.runtime.image_name or live.runtime.image_name,
        image_id=news.runtime.image_id or live.runtime.image_id,
        image_digest=news.runtime.image_digest or live.runtime.image_digest,
    )
    return replace(live, runtime=runtime, k8s=news.k8s)


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def _raise_descriptor_limit() -> None:
    # Three descriptors a container; the usual soft limit of 1024 is for select(2) users.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
