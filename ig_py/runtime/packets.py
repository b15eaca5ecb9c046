"""Programs that see packets: socket filters by network namespace, classifiers by interface
(docs/programs.md#packets)."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py.containers.targets import HOST, Target
from ig_py.errors import ObjectError, UsageError
from ig_py.gadget import sections
from ig_py.gadget.spec import ProgramSpec
from ig_py.host.descriptors import USED_UP
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass, field
from ig_py.runtime.target_attacher import Missing, Release
from ig_py.runtime.unattached import Unattached

if TYPE_CHECKING:
    from ig_py._core import Object

log = logging.getLogger(__name__)

MIN_PAUSE_SECONDS = 0.002
MAX_PAUSE_SECONDS = 1.0
"""Between two looks at the interfaces of a container that changes them without end."""
QUIET_SECONDS = 5.0
"""After that long without a change, the next one is looked at at once."""
CONFIRM_SECONDS = 0.1
"""After that long a failure to attach to an interface is looked at again, and told."""
MAX_READS = 256
MAX_NEWS = 64
"""Bytes of one change that are read: its content is not used."""

_HOST_NETWORK = "it is on the host's network; --iface names an interface of the host"
_NO_INTERFACE = "it has no interface that is up and whose other end is on the host (veth)"


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


@dataclass
class _Network:
    """A network namespace that targets are in. ``fd`` holds it, so that its number is not used
    again; ``numbers`` are the core's, by what they are attached to; ``had_interface``: programs
    were attached to an interface, which may have gone since."""

    fd: int
    netns: int
    users: dict[str, Target] = field(default_factory=dict)
    numbers: dict[tuple[str, int], int] = field(default_factory=dict)
    had_interface: bool = False


class _ByNamespace:
    """Attaches to each network namespace once, as long as a target is in it."""

    def __init__(
        self, obj: Object, programs: list[ProgramSpec], view: HostView, release: Release
    ) -> None:
        self._object = obj
        self._release = release
        self._view = view
        self._wanted = programs
        self._networks: dict[int, _Network] = {}

    @property
    def programs(self) -> list[str]:
        return [sections.label(program) for program in self._wanted]

    def attach(self, target: Target, *, made: bool) -> Missing | None:
        network = self._of(target)
        if network is None:
            fd = open_netns(self._view, target)
            netns = os.fstat(fd).st_ino
            network = self._networks.get(netns)
            if network is None:
                network = self._networks[netns] = _Network(fd, netns)
            else:
                os.close(fd)
            network.users[target.id] = target
        reasons = self._look(network)
        return Missing(reasons) if reasons else None

    def detach(self, target: Target) -> None:
        network = self._of(target)
        if network is None:
            return
        del network.users[target.id]
        if not network.users:
            del self._networks[network.netns]
            self._close(network)

    def _of(self, target: Target) -> _Network | None:
        found = (n for n in self._networks.values() if target.id in n.users)
        return next(found, None)

    def _look(self, network: _Network) -> dict[str, str]:
        """Attach what is not attached yet; why programs are not, by their labels."""
        raise NotImplementedError

    def _close(self, network: _Network) -> None:
        for number in network.numbers.values():
            self._release(number)
        os.close(network.fd)


class SocketFilters(_ByNamespace):
    """A filter's socket gets the packets of all interfaces of its namespace, later ones too."""

    def _look(self, network: _Network) -> dict[str, str]:
        from ig_py._core import CoreError

        reasons = {}
        for program in self._wanted:
            key = (program.name, 0)
            if key in network.numbers:
                continue
            try:
                network.numbers[key] = self._object.attach_socket(
                    program.name, network.fd, network.netns
                )
            except CoreError as error:
                reasons[sections.label(program)] = error.message
        return reasons


class Classifiers(_ByNamespace):
    """Attaches to the host's ends of containers' interfaces, as long as these are there.

    An engine makes the interfaces of a container while the container is being made, or later. The
    kernel tells of each change of an interface in the container's network namespace
    (rtnetlink(7), RTNLGRP_LINK); then the interfaces are looked up again.

    A packet that enters the container leaves the host's end, so the directions are swapped.

    *reactor*: whose thread calls :meth:`attach` and :meth:`detach`.
    """

    def __init__(
        self,
        obj: Object,
        programs: list[ProgramSpec],
        view: HostView,
        release: Release,
        reactor: Reactor,
    ) -> None:
        super().__init__(obj, programs, view, release)
        self._reactor = reactor
        self._ingress = {p.name: direction(p) == "ingress" for p in programs}
        self._news: dict[int, _News] = {}
        self._unattached = Unattached()

    def attach(self, target: Target, *, made: bool) -> Missing | None:
        if target == HOST:
            return None
        if target.host_network:
            return Missing(dict.fromkeys(self.programs, _HOST_NETWORK))
        return super().attach(target, made=made)

    def _look(self, network: _Network) -> dict[str, str]:
        from ig_py._core import interfaces_into

        if network.netns not in self._news:
            # Before the first look: no interface comes between.
            self._follow(network)
        host = open_netns(self._view, HOST)
        try:
            found = interfaces_into(host, network.fd)
            for key in [key for key in network.numbers if key[1] not in found]:
                self._release(network.numbers.pop(key))
            if found:
                network.had_interface = True
                return self._attach_interfaces(network, host, found)
            # An interface that went is no failure.
            return {} if network.had_interface else dict.fromkeys(self.programs, _NO_INTERFACE)
        finally:
            os.close(host)

    def _attach_interfaces(
        self, network: _Network, host: int, indexes: list[int]
    ) -> dict[str, str]:
        from ig_py._core import CoreError

        reasons = {}
        for index in indexes:
            for program in self._wanted:
                key = (program.name, index)
                if key in network.numbers:
                    continue
                try:
                    network.numbers[key] = self._object.attach_interface(
                        program.name,
                        host,
                        index,
                        ingress=not self._ingress[program.name],
                        netns_id=network.netns,
                    )
                except CoreError as error:
                    reasons[sections.label(program)] = error.message
        return reasons

    def _close(self, network: _Network) -> None:
        news = self._news.pop(network.netns, None)
        if news is not None:
            self._reactor.unwatch(news.socket.fileno())
            news.socket.close()
        super()._close(network)

    def _follow(self, network: _Network) -> None:
        from ig_py._core import link_news

        news = _News(socket.socket(fileno=link_news(network.fd)))
        self._news[network.netns] = news
        self._watch(network, news)

    def _watch(self, network: _Network, news: _News) -> None:
        self._reactor.watch(news.socket.fileno(), lambda: self._changed(network, news))

    def _changed(self, network: _Network, news: _News) -> None:
        """There is news. It is read when its time has come: a container may change interfaces
        without end."""
        self._reactor.unwatch(news.socket.fileno())
        self._reactor.later(news.pause(), lambda: self._look_again(network, news))

    def _look_again(self, network: _Network, news: _News) -> None:
        if self._news.get(network.netns) is not news:
            return
        news.read()
        self._watch(network, news)
        if self._failures(network):
            # An interface that goes is no failure: then it is not there any more at the next look.
            self._reactor.later(CONFIRM_SECONDS, lambda: self._confirm(network, news))

    def _confirm(self, network: _Network, news: _News) -> None:
        """Tell what still fails, each program once."""
        if self._news.get(network.netns) is not news:
            return
        found = self._failures(network)
        reasons = {program: why for program, why in found.items() if program not in news.told}
        news.told |= reasons.keys()
        for target in network.users.values():
            self._unattached.add(target.name, reasons)
        self._unattached.flush()

    def _failures(self, network: _Network) -> dict[str, str]:
        """Why programs are not attached to interfaces that are there, by their labels."""
        from ig_py._core import CoreError

        try:
            reasons = self._look(network)
        except (CoreError, OSError) as error:
            reasons = dict.fromkeys(self.programs, str(error))
        return {program: why for program, why in reasons.items() if why != _NO_INTERFACE}


class _News:
    """A socket that is readable when an interface has changed."""

    def __init__(self, received: socket.socket) -> None:
        self.socket = received
        self.told: set[str] = set()
        """Programs of which it was told that they are not attached to an interface."""
        self._pause = MIN_PAUSE_SECONDS
        self._last = 0.0

    def pause(self) -> float:
        """Seconds until the interfaces may be looked up again; grows while changes go on."""
        now = time.monotonic()
        quiet = now - self._last >= QUIET_SECONDS
        self._pause = MIN_PAUSE_SECONDS if quiet else min(2 * self._pause, MAX_PAUSE_SECONDS)
        due = max(now, self._last + self._pause) if not quiet else now
        self._last = due
        return due - now

    def read(self) -> None:
        """Drop what has come: the interfaces are listed instead."""
        for _ in range(MAX_READS):
            try:
                self.socket.recv(MAX_NEWS)
            except BlockingIOError:
                return
            except OSError as error:
                # Some of it had no room, which is news as well.
                if error.errno != errno.ENOBUFS:
                    return


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
        HostReadError: That cannot be known.
    """
    try:
        if view.root == "/":
            return socket.if_nametoindex(name)
        if "/" in name or name in ("", ".", ".."):
            raise OSError("not a name")
        return int(Path(view.root, "sys/class/net", name, "ifindex").read_text())
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (*USED_UP, errno.ENOMEM):
            raise HostReadError(f"network interface {name}", error) from error
        raise UsageError(
            f"--iface {name!a}: no such network interface",
            remedy="ip link lists the interfaces",
        ) from error
