"""A bridge of the host, to whose other side containers are plugged as engines do it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from support.waiting import deadline

_NETWORKS = 512
"""Of 256 addresses in 198.18.0.0/15, which is for tests of network equipment (RFC 2544)."""
_FIRST = 2
_MAC = "02:69:67:70:79:01"


def _ip(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=deadline(20))


@dataclass(frozen=True)
class Bridge:
    """*name*: the interface's. *prefix*: of its addresses, which no other process's bridge has."""

    name: str
    prefix: str

    @property
    def address(self) -> str:
        """The bridge's own."""
        return f"{self.prefix}.1"

    def plug(self, pid: int, number: int) -> None:
        """Give the network namespace of a process an interface, which is set up last. *number*:
        below 250, another one for each container."""
        near, far = f"{self.name}v{number}", f"{self.name}f{number}"
        _ip("ip", "link", "add", near, "type", "veth", "peer", "name", far)
        try:
            _ip("ip", "link", "set", near, "master", self.name, "up")
            _ip("ip", "link", "set", far, "netns", str(pid))
        except subprocess.CalledProcessError:
            _ip("ip", "link", "del", near)
            raise
        inside = ("nsenter", "-t", str(pid), "-n", "ip")
        _ip(*inside, "addr", "add", f"{self.prefix}.{_FIRST + number}/24", "dev", far)
        _ip(*inside, "link", "set", far, "up")
        # A bridge may take a second to forward from a new port, and with that to answer ARP.
        _ip(*inside, "neigh", "replace", self.address, "lladdr", _MAC, "dev", far)


@contextlib.contextmanager
def bridge() -> Iterator[Bridge]:
    """It is there as long as the block runs."""
    network = os.getpid() % _NETWORKS
    prefix = f"198.{18 + network // 256}.{network % 256}"
    made = Bridge(f"ig{os.getpid() % 100_000}", prefix)
    _ip("ip", "link", "add", made.name, "address", _MAC, "type", "bridge")
    try:
        _ip("ip", "addr", "add", f"{made.address}/24", "dev", made.name)
        _ip("ip", "link", "set", made.name, "up")
        yield made
    finally:
        _ip("ip", "link", "del", made.name)
