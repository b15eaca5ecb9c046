"""Where engines say that runc and crun keep the state of the engine's containers (``--root``).

What an engine answers is not trusted: anything may be missing or odd, and a path counts only as
``learnt_roots`` says. A root is the path of a directory; ``/*`` at its end stands for any name
between it and the directories of the containers: containerd's shim adds the namespace.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ig_py.containers.engines.config import DEFAULT_SOCKETS
from ig_py.containers.speakers import arguments, owners_for
from ig_py.host.proc import HostView
from ig_py.host.safe_open import FileRefused, Links, read_beneath

if TYPE_CHECKING:
    from ig_py.containers.engines.protos import containerd_pb2 as pb

log = logging.getLogger(__name__)

MAX_CONFIG = 1024 * 1024
"""Bytes of an engine's configuration."""
RUNC_OPTIONS = "containerd.runc.v1.Options"
"""The type of the options of containerd's shim for runc and crun."""
CRIO = "cri-o"
"""How CRI-O calls itself (``Version`` of the Kubernetes runtime interface)."""
DOCKER_CONFIG = "etc/docker/daemon.json"
"""dockerd(8), --config-file."""
_RUNTIMES = ("runc", "crun")


def of_docker(info: Any, inspected: Any) -> Iterator[str]:
    """Docker's, from its ``/info`` and what it tells of a container that runs (None: of none).

    Neither names the directory below which Docker has its state (``--exec-root``): in it are the
    socket of the containerd that Docker has started and the network namespaces of containers.
    """
    address = _text(_of(info, "Containerd"), "Address")
    if address.endswith("/containerd/containerd.sock") and address != DEFAULT_SOCKETS["containerd"]:
        yield below_exec_root(address.removesuffix("/containerd/containerd.sock"))
    sandbox = PurePosixPath(_text(_of(inspected, "NetworkSettings"), "SandboxKey"))
    if sandbox.parent.name == "netns":
        yield below_exec_root(str(sandbox.parent.parent))
    for runtime in _of(info, "Runtimes").values():
        options = _of(runtime, "options")
        if root := _text(options, "Root") or _text(options, "root"):
            yield f"{root}/*"


def below_exec_root(path: str) -> str:
    """Docker's root of runtimes' state for that ``--exec-root``."""
    return f"{path}/runtime-runc/*"


def of_containerd(message: pb.Container) -> str:
    """The root of one container of containerd's; "" for the usual one."""
    from google.protobuf.message import DecodeError

    from ig_py.containers.engines.protos import containerd_pb2 as pb

    options = message.runtime.options
    if options.type_url.rpartition("/")[2] != RUNC_OPTIONS:
        return ""
    try:
        root = pb.RuncOptions.FromString(options.value).root
    except DecodeError:
        return ""
    return f"{root}/*" if root else ""


def of_containerd_config(info: Mapping[str, str]) -> Iterator[str]:
    """Those that containerd's configuration has for its runtimes (verbose ``Status``)."""
    runtimes = _of(_of(_json(info.get("config", "")), "containerd"), "runtimes")
    for runtime in runtimes.values():
        if root := _text(_of(runtime, "options"), "Root"):
            yield f"{root}/*"


def of_crio_config(config: bytes | bytearray) -> Iterator[tuple[str, str]]:
    """CRI-O's roots and their runtimes (``runtime_root``, crio.conf(5))."""
    import tomllib

    try:
        document: Any = tomllib.loads(config.decode())
    except (ValueError, RecursionError):
        return
    for name, runtime in _of(_of(_of(document, "crio"), "runtime"), "runtimes").items():
        root = _text(runtime, "runtime_root")
        if root and _text(runtime, "runtime_type") in ("", "oci"):
            path = PurePosixPath(_text(runtime, "runtime_path") or name)
            yield root, path.name if path.name in _RUNTIMES else _RUNTIMES[0]


def of_process(view: HostView, engine: str, pid: int) -> Iterator[tuple[str, str]]:
    """Those that the command line of an engine's process gives, or its configuration."""
    words, speaker = arguments(view, pid)
    if not words or not speaker.is_root:
        return
    program = PurePosixPath(words[0]).name
    if engine == "docker":
        found = _option(words, "--exec-root")
        root = found[-1] if found else _text(_docker_config(view, words), "exec-root")
        if root:
            yield below_exec_root(root), engine
    elif engine == "podman" and program == "podman":
        named = [PurePosixPath(word).name for word in _option(words, "--runtime")]
        runtime = named[-1] if named and named[-1] in _RUNTIMES else _RUNTIMES[1]
        for flag in _option(words, "--runtime-flag"):
            name, _, root = flag.partition("=")
            if name == "root" and root:
                yield root, runtime


def _docker_config(view: HostView, words: list[str]) -> Any:
    # A service manager that listens for dockerd is another program: then the usual file counts.
    given = _option(words, "--config-file")
    path = given[-1].lstrip("/") if given and given[-1].startswith("/") else DOCKER_CONFIG
    try:
        raw = read_beneath(
            view.root,
            path,
            most=MAX_CONFIG,
            owners=owners_for(None),
            links=Links.IN_ROOT,
            one_mount=False,
        )
    except FileRefused as error:
        log.debug("%s", error)
        return {}
    return _json((raw or b"").decode("utf-8", "replace"))


def _option(words: list[str], name: str) -> list[str]:
    """The values of an option, in their order."""
    found = []
    for index, word in enumerate(words[1:], 1):
        if word == name and words[index + 1 :]:
            found.append(words[index + 1])
        elif word.startswith(f"{name}="):
            found.append(word.partition("=")[2])
    return found


def _json(raw: str) -> Any:
    try:
        return json.loads(raw) if raw and len(raw) <= MAX_CONFIG else {}
    except (ValueError, RecursionError):
        return {}


def _of(parent: Any, key: str) -> dict[str, Any]:
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}


def _text(parent: Any, key: str) -> str:
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, str) else ""
