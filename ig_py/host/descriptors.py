"""The limit of open files (RLIMIT_NOFILE), which containers and attached programs use up."""

from __future__ import annotations

import errno
import resource
import sys

from ig_py.errors import KernelError

LEAST = 64
"""Descriptors without which no gadget runs: those of the interpreter, of a gadget's maps and
programs, of the search for containers."""
OF_CONTAINER = 3
"""Descriptors that each container takes: of its init and of two namespaces."""
REMEDY = "raise the limit of open files: ulimit -n 4096, or LimitNOFILE= of the service"
USED_UP = frozenset({errno.EMFILE, errno.ENFILE})
"""No descriptor is left: in this process, or in the system."""


def raise_limit() -> int:
    """Raise the soft limit to the hard one, which is returned.

    The usual soft limit of 1024 is for select(2), which nothing here uses; each container takes
    :data:`OF_CONTAINER`, and a program that is attached to every CPU one for each.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def require(attempt: str) -> None:
    """Raise the limit as far as possible.

    Raises:
        KernelError: It is too low for any gadget.
    """
    limit = raise_limit()
    if 0 <= limit < LEAST:
        raise KernelError(
            f"{attempt}: only {limit} files may be open at once, at least {LEAST} are needed",
            remedy=REMEDY,
        )


def room_for_users() -> int:
    """How many containers may be held by the word of users other than root: half of the descriptors
    are for root's, and for programs."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit < 0 else limit // 2 // OF_CONTAINER
