"""Programs that see packets: socket filters by network namespace, classifiers by interface
(docs/programs.md#packets)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py.containers.targets import HOST, Target
from ig_py.errors import ObjectError, UsageError
from ig_py.gadget import sections
from ig_py.gadget.spec import ProgramSpec
from ig_py.host.proc import HostView

if TYPE_CHECKING:
    from ig_py._core import Object

log = logging.getLogger(__name__)


def open_netns(view: HostView, target: Target) -> int:
    """Descriptor of the network namespace of *target*; the caller closes it.

    Raises:
        OSError: It cannot be opened; ProcessLookupError when the target's process ended.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC
    if target == HOST:
        try:
            return os.open(f"{view.proc}/1/ns/net", flags)
        except PermissionError:
            # Without access to process 1 (hidepid, no ptrace right) our own namespace is taken:
            # it is the host's, unless ig-py runs in a container with a network of its own.
            return os.open("/proc/self/ns/net", flags)
    fd = os.open(f"{view.proc}/{target.pid}/ns/net", flags)
    if target.netns and os.fstat(fd).st_ino != target.netns:
        os.close(fd)
        raise ProcessLookupError(f"process {target.pid} ended")
    return fd


class _ByNamespace:
    """Attaches to each network namespace once, as long as a target is in it."""

    def __init__(self, obj: Object, view: HostView) -> None:
        self._object = obj
        self._view = view
        self._attached: dict[int, list[int]] = {}
        self._namespace: dict[str, int] = {}

    def attach(self, target: Target) -> None:
        fd = open_netns(self._view, target)
        try:
            netns = os.fstat(fd).st_ino
            if netns not in self._attached:
                self._attached[netns] = []
                self._open(target, fd, netns, self._attached[netns].append)
            self._namespace[target.id] = netns
        finally:
            os.close(fd)

    def detach(self, target: Target) -> None:
        netns = self._namespace.pop(target.id, None)
        if netns is None or netns in self._namespace.values():
            return
        for number in self._attached.pop(netns):
            self._object.release(number)

    def _open(self, target: Target, fd: int, netns: int, keep: Callable[[int], None]) -> None:
        """Attach to the namespace *fd*; each number of the core goes to *keep*."""
        raise NotImplementedError


class SocketFilters(_ByNamespace):
    def __init__(self, obj: Object, programs: list[ProgramSpec], view: HostView) -> None:
        super().__init__(obj, view)
        self._programs = programs

    def _open(self, target: Target, fd: int, netns: int, keep: Callable[[int], None]) -> None:
        for program in self._programs:
            keep(self._object.attach_socket(program.name, fd, netns))


class Classifiers(_ByNamespace):
    """Attaches to the host's ends of containers' interfaces.

    A packet that enters the container leaves the host's end, so the directions are swapped.
    """

    def __init__(self, obj: Object, programs: list[ProgramSpec], view: HostView) -> None:
        super().__init__(obj, view)
        self._programs = [(p.name, direction(p) == "ingress") for p in programs]

    def attach(self, target: Target) -> None:
        # A container on the host's network has no interface of its own.
        if not target.host_network:
            super().attach(target)

    def _open(self, target: Target, fd: int, netns: int, keep: Callable[[int], None]) -> None:
        from ig_py._core import interfaces_into

        host = open_netns(self._view, HOST)
        try:
            found = interfaces_into(host, fd)
            if not found:
                log.debug("container %a has no interface that leads to the host", target.name)
            for index in found:
                for name, ingress in self._programs:
                    keep(
                        self._object.attach_interface(
                            name, host, index, ingress=not ingress, netns_id=netns
                        )
                    )
        finally:
            os.close(host)


def direction(program: ProgramSpec) -> str:
    """``ingress`` or ``egress``, from ``classifier/ingress/NAME``.

    Raises:
        ObjectError: The section says neither.
    """
    parts = sections.bare(program.section).split("/")
    found = program.attach_to or (parts[1] if len(parts) > 1 else "")
    if found not in ("ingress", "egress"):
        raise ObjectError(
            f'program "{program.name}" ({program.section}): its section must read '
            "classifier/ingress/NAME or classifier/egress/NAME"
        )
    return found


def attach_to_interface(obj: Object, program: ProgramSpec, interface: str, view: HostView) -> None:
    """Attach a classifier to an interface of the host, in the direction that its section says.

    Raises:
        UsageError: The host has no such interface.
        CoreError: The kernel refuses.
        OSError: The host's network namespace cannot be opened.
    """
    fd = open_netns(view, HOST)
    try:
        netns = os.fstat(fd).st_ino
        obj.attach_interface(
            program.name,
            fd,
            interface_index(interface, view),
            ingress=direction(program) == "ingress",
            netns_id=netns,
        )
    finally:
        os.close(fd)


def interface_index(name: str, view: HostView) -> int:
    """Index of the host's interface *name*.

    Raises:
        UsageError: The host has none of that name.
    """
    try:
        if view.root == "/":
            return socket.if_nametoindex(name)
        if "/" in name or name in ("", ".", ".."):
            raise OSError("not a name")
        return int(Path(view.root, "sys/class/net", name, "ifindex").read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--iface {name!a}: no such network interface",
            remedy="ip link lists the interfaces",
        ) from error
