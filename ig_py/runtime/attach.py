"""Attaching a loaded object's programs: Python chooses where, the core attaches.

Facts: docs/programs.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ig_py.errors import KernelError, ObjectError, UsageError
from ig_py.gadget import sections
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import GadgetSpec, ProgramSpec
from ig_py.host.reactor import Reactor
from ig_py.operators.running import Host
from ig_py.runtime.packets import (
    Classifiers,
    SocketFilters,
    attach_to_interface,
    direction,
    interface_index,
)
from ig_py.runtime.sampling import sampling
from ig_py.runtime.target_attacher import Attachment, TargetAttacher
from ig_py.runtime.uprobes import Uprobes, file_and_symbol

if TYPE_CHECKING:
    from ig_py._core import Object

log = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0
"""How long a run waits at most until its programs are attached to the running containers."""


class Attacher:
    """Attaches programs one by one; those of containers when :meth:`attach_to_targets` is called.

    Args:
        obj: The loaded object.
        spec: What the gadget is.
        host: Its targets are what programs of files, sockets and interfaces attach to.
        interface: Of the host, for classifiers instead of the containers' interfaces, and for
            XDP programs ("": none).
    """

    def __init__(self, obj: Object, spec: GadgetSpec, host: Host, interface: str = "") -> None:
        self._object = obj
        self._spec = spec
        self._host = host
        self._interface = interface
        self._of_files: list[ProgramSpec] = []
        self._of_sockets: list[ProgramSpec] = []
        self._of_interfaces: list[ProgramSpec] = []
        self._uprobes: Uprobes | None = None
        self._target_attacher: TargetAttacher | None = None

    def attach(self, program: ProgramSpec) -> None:
        """Attach *program*; keep it for :meth:`attach_to_targets` if it attaches to containers.

        Raises:
            CoreError: The kernel refuses.
            IgPyError: The section, gadget.yaml or a flag does not say where to attach.
        """
        kind = sections.kind(program.section)
        special = self._special(kind)
        if special is not None:
            special(program)
        elif kind not in sections.ITERATORS:
            self._object.attach(program.name)

    def _special(self, kind: str) -> Callable[[ProgramSpec], object] | None:
        if kind in sections.OF_FILES:
            return self._file_program
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

    def attach_to_targets(self, check: Callable[[], None]) -> None:
        """Attach to every target that exists now and, in a thread, to every later one.

        Args:
            check: Called while the existing targets are attached to; may raise to stop that.
        """
        obj, view = self._object, self._host.view
        attachments: list[Attachment] = []
        reactor, detacher = Reactor("ig-py-attach"), Reactor("ig-py-detach")

        def release(number: int) -> None:
            # The kernel waits for a grace period, some 100 ms, and later containers do not.
            def end() -> None:
                obj.release(number)

            detacher.soon(end)

        if self._of_files:
            self._uprobes = Uprobes(obj, self._of_files, view, release)
            attachments.append(self._uprobes)
        if self._of_sockets:
            attachments.append(SocketFilters(obj, self._of_sockets, view, release))
        if self._of_interfaces:
            attachments.append(Classifiers(obj, self._of_interfaces, view, release, reactor))
        if not attachments:
            return
        self._target_attacher = TargetAttacher(self._host.targets, attachments, (reactor, detacher))
        self._target_attacher.start()
        if not self._target_attacher.settle(SETTLE_SECONDS, check):
            log.warning(
                "attaching to the running containers takes longer than %.0f s: those that are not"
                " attached to yet are missing from the output",
                SETTLE_SECONDS,
            )
        elif self._uprobes is not None and not self._uprobes.attached:
            self._warn_nothing_attached()

    def stop(self) -> None:
        """Attach to no further target. What is attached stays until the object is closed."""
        if self._target_attacher is not None:
            self._target_attacher.stop()
            self._target_attacher = None

    def _warn_nothing_attached(self) -> None:
        if not self._host.targets.live():
            log.warning(
                "no container is selected: programs are attached when one starts;"
                " --host attaches to the host's files"
            )
            return
        files = sorted({file_and_symbol(p)[0] for p in self._of_files})
        log.warning(
            "nothing is attached: no selected container has a file that fits (%s); programs are"
            " attached when one with such a file starts",
            ", ".join(f"{f!a}" for f in files),
        )

    def _file_program(self, program: ProgramSpec) -> None:
        # A malformed target must fail the run now, not be logged for each container.
        file_and_symbol(program)
        self._of_files.append(program)

    def _classifier(self, program: ProgramSpec) -> None:
        direction(program)
        if self._interface:
            attach_to_interface(self._object, program, self._interface, self._host.view)
        else:
            self._of_interfaces.append(program)

    def _cgroup(self, program: ProgramSpec) -> None:
        path = self._host.view.cgroup2_mount()
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
                f'program "{program.name}" ({program.section}): no marker names the map of '
                "sockets that it is attached to",
                remedy="add GADGET_SK_TARGET_MAP(program, map)",
            )
        self._object.attach_sockmap(program.name, name)

    def _sample(self, program: ProgramSpec) -> None:
        rate = sampling(program, Metadata(self._spec.metadata))
        self._object.attach_perf_event(
            program.name, rate.type, rate.config, frequency=rate.frequency, period=rate.period
        )

    def _xdp(self, program: ProgramSpec) -> None:
        if not self._interface:
            raise UsageError(
                f'program "{program.name}" ({program.section}): it needs an interface',
                remedy="name one with --iface",
            )
        self._object.attach_xdp(program.name, interface_index(self._interface, self._host.view))
