"""Where the programs are that create containers (OCI runtimes)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from ig_py.errors import ContainerError
from ig_py.host.files import HostReadError, require_absent
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

PATHS = (
    *("/bin/runc", "/usr/bin/runc", "/usr/sbin/runc"),
    *("/usr/local/bin/runc", "/usr/local/sbin/runc"),
    *("/usr/bin/crun", "/usr/local/bin/crun"),
    *("/usr/libexec/crio/runc", "/usr/libexec/crio/crun", "/usr/lib/cri-o-runc/sbin/runc"),
    *("/var/lib/rancher/k3s/data/current/bin/runc", "/var/lib/rancher/rke2/bin/runc"),
    *("/var/lib/k0s/bin/runc", "/snap/microk8s/current/bin/runc"),
    "/aarch64-bottlerocket-linux-gnu/sys-root/usr/bin/runc",
    "/x86_64-bottlerocket-linux-gnu/sys-root/usr/bin/runc",
)
"""Where distributions have runtimes (those that ig watches, but for conmon)."""
VARIABLE = "RUNTIME_PATH"
"""Environment variable with other paths in place of these, separated by colons."""
LOOK_AGAIN_SECONDS = 30.0
"""How often it is looked whether a runtime was installed, or replaced."""


def runtime_paths(view: HostView) -> list[str]:
    """Paths of the runtimes that are installed, each file once.

    Raises:
        HostReadError: It cannot be known.
    """
    given = os.environ.get(VARIABLE, "")
    found: dict[tuple[int, int], str] = {}
    for name in given.split(":") if given else PATHS:
        try:
            path = view.path(name)
            facts = Path(path).stat()
        except HostReadError:
            raise
        except ContainerError:
            # Its links lead in a circle.
            continue
        except OSError as error:
            if error.errno != errno.ELOOP:
                require_absent(path, error, denied=True)
            continue
        found.setdefault((facts.st_dev, facts.st_ino), path)
    return list(found.values())


def keep_marked(
    view: HostView,
    reactor: Reactor,
    mark: Callable[[str], object],
    wanted: Callable[[], bool],
) -> None:
    """Call *mark* with the path of each installed runtime, now and then while *wanted*: a runtime
    that is replaced is another file (another inode), which fanotify has no mark on."""

    def again() -> None:
        if wanted():
            reactor.later(LOOK_AGAIN_SECONDS, again)
            try:
                for path in runtime_paths(view):
                    mark(path)
            except HostReadError as error:
                view.failures.add(error)

    reactor.later(LOOK_AGAIN_SECONDS, again)
