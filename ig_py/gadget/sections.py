"""Kind and target of a program, from its section."""

from __future__ import annotations

import re

from ig_py.gadget.spec import ProgramSpec

DISABLED = "gadget_program_disabled"
"""Target of a program that is neither loaded nor attached."""
OPTIONAL = "?"
"""Before a section: libbpf loads the program only when it is asked to (libbpf: autoload)."""

OF_FILES = frozenset({"uprobe", "uretprobe", "usdt"})
"""Programs that attach to files of containers."""
OF_INTERFACES = frozenset({"classifier", "tc", "tcx"})
OF_SOCKET_MAPS = frozenset({"sk_skb", "sk_msg"})
OF_CGROUPS = frozenset({"sockops", "cgroup", "cgroup_skb"})
ITERATORS = frozenset({"iter"})
"""Programs that are run to read their output, instead of being attached."""


def bare(section: str) -> str:
    """The section without its mark: ``?kprobe/f`` → ``kprobe/f``."""
    return section.removeprefix(OPTIONAL)


def is_optional(section: str) -> bool:
    return section.startswith(OPTIONAL)


def disables(target: str) -> bool:
    """Whether *target* says that there is none: ``libc:gadget_program_disabled`` does too."""
    return re.split("[/:]", target)[-1] == DISABLED


def kind(section: str) -> str:
    """``uprobe.multi.s//bin/x:f`` → ``uprobe``; ``socket1`` → ``socket``."""
    first = bare(section).split("/", 1)[0].split(".", 1)[0]
    return "socket" if first.startswith("socket") else first


def target(program: ProgramSpec) -> str:
    """The target in gadget.yaml's ``attach_to``, else in the section; "" for none."""
    return program.attach_to or program.section.partition("/")[2]


def label(program: ProgramSpec) -> str:
    """How messages name a program and what it is attached to."""
    section = program.section
    if program.attach_to:
        section = f"{section.partition('/')[0]}/{program.attach_to}"
    return f'program "{program.name}" ({section})'


def needs_containers(section: str) -> bool:
    """Whether a program of this section is attached to, or run in, each container separately."""
    name = kind(section)
    if name in ("socket", *OF_FILES, *OF_INTERFACES):
        return True
    # These iterators list the sockets of one network namespace.
    return bare(section) in ("iter/tcp", "iter/udp")
