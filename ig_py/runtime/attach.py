"""Attaching a loaded object's programs: Python decides where, the core does it.

Facts: docs/programs.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ig_py.containers.targets import Targets
from ig_py.errors import KernelError, ObjectError, UsageError
from ig_py.gadget import sections
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import GadgetSpec, ProgramSpec
from ig_py.host.proc import HostView
from ig_py.records import dataclass, field
from ig_py.runtime.follow import Attachment, ContainerFollower
from ig_py.runtime.packets import (
    Classifiers,
    SocketFilters,
    attach_to_interface,
    direction,
    interface_index,
)
from ig_py.runtime.sampling import sampling
from ig_py.runtime.uprobes import Uprobes, file_and_symbol

if TYPE_CHECKING:
    from ig_py._core import Object

log = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0
"""How long a run waits until its programs are attached to the containers there are."""


@dataclass
class Places:
    """Where programs go whose sections do not say it.

    *targets*: containers, and the host if it is to be traced. *interface*: of the host,
    for classifiers instead of the containers', and for XDP programs.
    """

    targets: Targets = field(default_factory=Targets)
    interface: str = ""
    view: HostView = field(default_factory=HostView.from_env)


class Attacher:
    """Attaches programs one by one; those of containers when :meth:`follow` is called.

    :meth:`attach` raises CoreError (the kernel refuses) or an IgPyError (nobody could).
    """

    def __init__(self, obj: Object, spec: GadgetSpec, places: Places) -> None:
        self._object = obj
        self._spec = spec
        self._places = places
        self._of_files: list[ProgramSpec] = []
        self._of_sockets: list[ProgramSpec] = []
        self._of_interfaces: list[ProgramSpec] = []
        self._uprobes: Uprobes | None = None
        self._follower: ContainerFollower | None = None

    def attach(self, program: ProgramSpec) -> None:
        kind = sections.kind(program.section)
        special = self._special(kind)
        if special is not None:
            special(program)
        elif kind not in sections.ITERATORS:
            self._object.attach(program.name)

    def _special(self, kind: str) -> Callable[[ProgramSpec], object] | None:
        if kind in sections.OF_FILES:
            return self._later_to_files
        if kind in sections.OF_INTERFACES:
            return self._classifier
        if kind in sections.OF_CGROUPS:
            return self._cgroup
        if kind in sections.OF_SOCKET_MAPS:
            return self._socket_map
        return {
            "socket": self._of_sockets.append,
            "perf_event": self._sample,
            "xdp": self._xdp,
        }.get(kind)

    def follow(self, check: Callable[[], None]) -> None:
        """Attach what goes to containers: to those there are now, and to those to come.

        *check* is called while that goes on, and may raise to stop.
        """
        obj, view = self._object, self._places.view
        attachments: list[Attachment] = []
        if self._of_files:
            self._uprobes = Uprobes(obj, self._of_files, view)
            attachments.append(self._uprobes)
        if self._of_sockets:
            attachments.append(SocketFilters(obj, self._of_sockets, view))
        if self._of_interfaces:
            attachments.append(Classifiers(obj, self._of_interfaces, view))
        if not attachments:
            return
        self._follower = ContainerFollower(self._places.targets, attachments)
        self._follower.start()
        if not self._follower.settle(SETTLE_SECONDS, check):
            log.warning("attaching to the containers there are takes long: events come meanwhile")
        elif self._uprobes is not None and not self._uprobes.places:
            self._nothing_found()

    def stop(self) -> None:
        """Follow containers no longer. What is attached stays until the object lets go."""
        if self._follower is not None:
            self._follower.stop()
            self._follower = None

    def _nothing_found(self) -> None:
        if not self._places.targets.live():
            log.warning(
                "no container is selected: programs are attached when one starts;"
                " --host attaches to the host's files"
            )
            return
        files = sorted({file_and_symbol(p)[0] for p in self._of_files})
        log.warning(
            "nothing to attach to in what is selected now: looked for %s (-v says more)",
            ", ".join(f"{f!a}" for f in files),
        )

    def _later_to_files(self, program: ProgramSpec) -> None:
        # What cannot be understood must fail now, not in each container.
        file_and_symbol(program)
        self._of_files.append(program)

    def _classifier(self, program: ProgramSpec) -> None:
        direction(program)
        if self._places.interface:
            attach_to_interface(self._object, program, self._places.interface, self._places.view)
        else:
            self._of_interfaces.append(program)

    def _cgroup(self, program: ProgramSpec) -> None:
        path = self._places.view.cgroup2_mount()
        if not path:
            raise KernelError(
                f'program "{program.name}" ({program.section}): no cgroup2 hierarchy is mounted',
                remedy="mount it at /sys/fs/cgroup",
            )
        self._object.attach_cgroup(program.name, path)

    def _socket_map(self, program: ProgramSpec) -> None:
        name = self._spec.targets.get(program.name)
        if name is None:
            raise ObjectError(
                f'program "{program.name}" ({program.section}): no marker says which map of '
                "sockets it belongs to",
                remedy="add GADGET_SK_TARGET_MAP(program, map)",
            )
        self._object.attach_sockmap(program.name, name)

    def _sample(self, program: ProgramSpec) -> None:
        rate = sampling(program, Metadata(self._spec.metadata))
        self._object.attach_perf_event(
            program.name, rate.type, rate.config, frequency=rate.frequency, period=rate.period
        )

    def _xdp(self, program: ProgramSpec) -> None:
        if not self._places.interface:
            raise UsageError(
                f'program "{program.name}" ({program.section}): it needs an interface',
                remedy="name one with --iface",
            )
        self._object.attach_xdp(
            program.name, interface_index(self._places.interface, self._places.view)
        )
