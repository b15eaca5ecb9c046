"""A bridge of the host, to whose other side containers are plugged as engines do it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from support.waiting import deadline

ADDRESS = "198.18.0.1"
"""The bridge's. 198.18.0.0/15 is for tests of network equipment (RFC 2544)."""
_NETWORK = "198.18.{}.{}/15"
_MAC = "02:69:67:70:79:01"


def _ip(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=deadline(20))


@dataclass(frozen=True)
class Bridge:
    """*name*: the interface's."""

    name: str

    def plug(self, pid: int, number: int) -> None:
        """Give the network namespace of a process an interface, which is set up last."""
        near, far = f"{self.name}v{number}", f"far{number}"
        _ip("ip", "link", "add", near, "type", "veth", "peer", "name", far)
        try:
            _ip("ip", "link", "set", near, "master", self.name, "up")
            _ip("ip", "link", "set", far, "netns", str(pid))
        except subprocess.CalledProcessError:
            _ip("ip", "link", "del", near)
            raise
        inside = ("nsenter", "-t", str(pid), "-n", "ip")
        address = _NETWORK.format(1 + number // 250, 1 + number % 250)
        _ip(*inside, "addr", "add", address, "dev", far)
        _ip(*inside, "link", "set", far, "up")
        # A bridge may take a second to forward from a new port, and with that to answer ARP.
        _ip(*inside, "neigh", "replace", ADDRESS, "lladdr", _MAC, "dev", far)


@contextlib.contextmanager
def bridge() -> Iterator[Bridge]:
    """It is there as long as the block runs."""
    made = Bridge(f"ig{os.getpid() % 100_000}")
    _ip("ip", "link", "add", made.name, "address", _MAC, "type", "bridge")
    try:
        _ip("ip", "addr", "add", f"{ADDRESS}/15", "dev", made.name)
        _ip("ip", "link", "set", made.name, "up")
        yield made
    finally:
        _ip("ip", "link", "del", made.name)
