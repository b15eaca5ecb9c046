"""The busybox image as an archive that every engine can load."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile

from support.busybox import root_tar

NAME = "docker.io/library/ig-py-busybox:local"
PAUSE = "docker.io/library/ig-py-pause:local"
"""The image of a pod's first container, which sleeps and keeps the pod's namespaces."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def archive(name: str = NAME, command: tuple[str, ...] = ("/bin/sh",)) -> bytes:
    """A tar in the format of ``docker save`` with one image, *name*, that has one layer."""
    layer = root_tar()
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps(
        [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    ).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in (
            (f"{digest}/layer.tar", layer),
            (config_name, config),
            ("manifest.json", manifest),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
