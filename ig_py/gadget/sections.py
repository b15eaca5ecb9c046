"""What a program's section says: its kind and its target."""

from __future__ import annotations

from ig_py.gadget.spec import ProgramSpec

OF_FILES = frozenset({"uprobe", "uretprobe", "usdt"})
"""Attached to files of containers."""
OF_INTERFACES = frozenset({"classifier", "tc", "tcx"})
OF_SOCKET_MAPS = frozenset({"sk_skb", "sk_msg"})
OF_CGROUPS = frozenset({"sockops", "cgroup", "cgroup_skb"})
ITERATORS = frozenset({"iter"})
"""Not attached: whoever wants their output runs them."""


def kind(section: str) -> str:
    """``uprobe.multi.s//bin/x:f`` → ``uprobe``; ``socket1`` → ``socket``."""
    first = section.lstrip("?").split("/", 1)[0].split(".", 1)[0]
    return "socket" if first.startswith("socket") else first


def target(program: ProgramSpec) -> str:
    """What the section or gadget.yaml's ``attach_to`` says; "" when nothing."""
    return program.attach_to or program.section.partition("/")[2]


def needs_containers(section: str) -> bool:
    """Does a program of this section go to each container by itself?"""
    name = kind(section)
    if name in ("socket", *OF_FILES, *OF_INTERFACES):
        return True
    # Sockets are listed by network namespace.
    return section.lstrip("?") in ("iter/tcp", "iter/udp")
