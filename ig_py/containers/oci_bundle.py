"""A container's OCI runtime bundle: where its config.json is, and what its annotations tell.

The bundle is found through the parent of the container's init: containerd's shim works in it, the
conmon of podman and CRI-O names it in its arguments. It is read through ``/proc/PARENT/root``, as
the parent sees the files.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from ig_py.containers.conmon import conmon_of
from ig_py.containers.model import Container, labels
from ig_py.containers.speakers import owners_for, speaker_of_process
from ig_py.host.credentials import credentials_of
from ig_py.host.files import held, require_absent
from ig_py.host.proc import HostView
from ig_py.host.safe_open import FileRefused, Links, read_beneath
from ig_py.records import dataclass, replace

log = logging.getLogger(__name__)

MAX_CONFIG = 16 * 1024 * 1024
MAX_USER_CONFIG = 128 * 1024
"""As :data:`MAX_CONFIG`, for files of users: each container's is kept, and a user may have many
(``descriptions.MAX_OF_USER``)."""
ROOT_SECONDS = 1.0
USER_SECONDS = 0.1
REST_SECONDS = 10.0
CONFIG_FILES = ("config.json", "userdata/config.json")
MANAGER = "io.container.manager"
NERDCTL = "nerdctl/name"
"""Label and annotation with the name that nerdctl has given to a container of containerd."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """The annotations of one engine."""

    runtime: str
    namespace: str
    pod_name: str
    pod_uid: str
    container_name: str
    kind: str
    image: str
    sandbox_id: str


_CONTAINERD = _Keys(
    "containerd",
    *(
        f"io.kubernetes.cri.{key}"
        for key in (
            "sandbox-namespace",
            "sandbox-name",
            "sandbox-uid",
            "container-name",
            "container-type",
            "image-name",
            "sandbox-id",
        )
    ),
)
_CRIO = _Keys(
    "cri-o",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.uid",
    "io.kubernetes.container.name",
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.SandboxID",
)


class BundleReader:
    """Reads the config.json of bundles. Thread-safe.

    Paths of bundles are told by command lines and state files. A config.json counts only as a file
    of the user whose container it is of, root's only as a file of root's. No user's file system is
    waited for longer than :data:`USER_SECONDS`, and one that was slow is not asked again for
    :data:`REST_SECONDS`.
    """

    def __init__(self, view: HostView) -> None:
        self._view = view
        self._resting: dict[int, float] = {}

    def of_init(self, pid: int, container_id: str, bundle: str, owner: int | None) -> str:
        """Text of the config.json of the container whose init is *pid*; "" when it is not found.

        *bundle*: its directory, "" where that is not known. *owner*: of the init's namespaces.

        Raises:
            HostReadError: There may be one, and it cannot be read.
        """
        view = self._view
        parent = view.status(pid).get("PPid", "")
        if parent.isdecimal():
            # Another process that gets its number must not show a root directory of its own.
            with held(f"{view.proc}/{parent}") as process:
                if _is_of(process, owner):
                    places = _places(view, int(parent), process, container_id, owner)
                    for place in (bundle, *places):
                        if config := self._read(f"{process}/root", place, owner):
                            return config
        # The root of the parent may not be readable, or the parent has ended.
        return self.of_host(bundle, owner)

    def of_host(self, bundle: str, owner: int | None) -> str:
        """Text of the config.json of a bundle of the host; "" when it is not found."""
        return self._read(self._view.root, bundle, owner)

    def _read(self, root: str, bundle: str, owner: int | None) -> str:
        if not bundle.startswith("/"):
            return ""
        for name in CONFIG_FILES:
            if config := self._read_file(root, f"{bundle}/{name}", owner):
                return config.decode("utf-8", "replace")
        return ""

    def _read_file(self, root: str, path: str, owner: int | None) -> bytes | None:
        began = time.monotonic()
        if owner and began < self._resting.get(owner, 0.0):
            return None
        seconds = USER_SECONDS if owner else ROOT_SECONDS
        try:
            return read_beneath(
                root,
                path,
                most=MAX_USER_CONFIG if owner else MAX_CONFIG,
                owners=owners_for(owner),
                links=Links.IN_ROOT,
                one_mount=False,
                deadline_s=seconds,
            )
        except FileRefused as error:
            # The root directory of the init's parent may be out of reach (CAP_SYS_PTRACE).
            error.require_known(trusted=not owner, denied=True)
            log.debug("%s", error)
            return None
        finally:
            now = time.monotonic()
            if owner and now - began > seconds / 2:
                self._resting[owner] = now + REST_SECONDS


def _is_of(process: str, owner: int | None) -> bool:
    return speaker_of_process(credentials_of(process)).may_speak_of(owner)


def _places(
    view: HostView, parent: int, process: str, container_id: str, owner: int | None
) -> tuple[str, ...]:
    if bundle := conmon_of(view, parent, owner).bundle:
        return (bundle,)
    link = f"{process}/cwd"
    try:
        cwd = Path(link).readlink()
    except OSError as error:
        require_absent(link, error, denied=True)
        return ()
    # A pod's shim works in the bundle of the pod's first container.
    own = cwd if cwd.name == container_id else cwd.parent / container_id
    return (str(own),)


def annotations_of(config: str) -> dict[str, str]:
    """The annotations of a config.json; {} when it is none."""
    try:
        document: Any = json.loads(config) if config else {}
    except (ValueError, RecursionError):
        return {}
    return labels(document.get("annotations")) if isinstance(document, dict) else {}


def annotated(container: Container, annotations: dict[str, str]) -> Container | None:
    """*container* with what its annotations tell, which counts more; None for a pod's sandbox."""
    manager = annotations.get(MANAGER, "")
    if manager == "libpod":
        return replace(container, runtime=replace(container.runtime, name="podman"))
    if manager == "cri-o":
        keys = _CRIO
    elif _CONTAINERD.kind in annotations:
        keys = _CONTAINERD
    elif name := annotations.get(NERDCTL):
        runtime = replace(container.runtime, name=_CONTAINERD.runtime, container_name=name)
        return replace(container, runtime=runtime)
    else:
        return container
    if annotations.get(keys.kind) == "sandbox":
        return None
    runtime, k8s = container.runtime, container.k8s
    return replace(
        container,
        runtime=replace(
            runtime, name=keys.runtime, image_name=annotations.get(keys.image) or runtime.image_name
        ),
        k8s=replace(
            k8s,
            namespace=annotations.get(keys.namespace) or k8s.namespace,
            pod_name=annotations.get(keys.pod_name) or k8s.pod_name,
            pod_uid=annotations.get(keys.pod_uid) or k8s.pod_uid,
            container_name=annotations.get(keys.container_name) or k8s.container_name,
        ),
        sandbox_id=annotations.get(keys.sandbox_id) or container.sandbox_id,
    )
