"""Kind and target of a program, from its section."""

from __future__ import annotations

from ig_py.gadget.spec import ProgramSpec

OF_FILES = frozenset({"uprobe", "uretprobe", "usdt"})
"""Programs that attach to files of containers."""
OF_INTERFACES = frozenset({"classifier", "tc", "tcx"})
OF_SOCKET_MAPS = frozenset({"sk_skb", "sk_msg"})
OF_CGROUPS = frozenset({"sockops", "cgroup", "cgroup_skb"})
ITERATORS = frozenset({"iter"})
"""Programs that are run to read their output, instead of being attached."""


def kind(section: str) -> str:
    """``uprobe.multi.s//bin/x:f`` → ``uprobe``; ``socket1`` → ``socket``."""
    first = section.lstrip("?").split("/", 1)[0].split(".", 1)[0]
    return "socket" if first.startswith("socket") else first


def target(program: ProgramSpec) -> str:
    """The target in gadget.yaml's ``attach_to``, else in the section; "" for none."""
    return program.attach_to or program.section.partition("/")[2]


def needs_containers(section: str) -> bool:
    """Whether a program of this section is attached to, or run in, each container separately."""
    name = kind(section)
    if name in ("socket", *OF_FILES, *OF_INTERFACES):
        return True
    # These iterators list the sockets of one network namespace.
    return section.lstrip("?") in ("iter/tcp", "iter/udp")
