"""Bundles for runc and crun: busybox, and a command; no engine is needed to run them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from support.busybox import root_tar
from support.engine import find_program
from support.oci_runtime import Runtime
from support.processes import output
from support.waiting import deadline


def runc_spec(directory: Path) -> dict[str, Any]:
    """runc's configuration of a container, which it writes to *directory*; without a terminal, and
    without a filter of system calls."""
    subprocess.run([find_program("runc"), "spec"], cwd=directory, check=True, timeout=deadline(30))
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    config["process"]["terminal"] = False
    config["linux"].pop("seccomp", None)
    return config


def make_bundle(directory: Path, *command: str, annotations: dict[str, str] | None = None) -> Path:
    """A bundle in *directory*, whose container runs *command* in new namespaces.

    Its root file system has the directories that a runtime mounts on: crun fails where two of it
    make them in the same file system at once.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(root_tar())) as tar:
        tar.extractall(directory / "rootfs", filter="fully_trusted")
    config = runc_spec(directory)
    config["process"]["args"] = list(command)
    config["annotations"] = annotations or {}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def run_bundle(bundle: Path, container_id: str, *options: str, runtime: str = "runc") -> str:
    """Run its container to the end; what it printed. ProgramError when that fails."""
    program = Runtime(runtime, str(bundle / "state"))
    return output(program.argv(*options, "run", "--bundle", str(bundle), container_id))
