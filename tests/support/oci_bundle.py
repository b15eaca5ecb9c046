"""Bundles for runc and crun: busybox, and a command; no engine is needed to run them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

from support.busybox import root_tar
from support.engine import find_program
from support.oci_runtime import Runtime
from support.processes import output
from support.waiting import deadline


def make_bundle(directory: Path, *command: str, annotations: dict[str, str] | None = None) -> Path:
    """A bundle in *directory*, whose container runs *command* in new namespaces.

    Its root file system has the directories that a runtime mounts on: crun fails where two of it
    make them in the same file system at once.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(root_tar())) as tar:
        tar.extractall(directory / "rootfs", filter="fully_trusted")
    subprocess.run([find_program("runc"), "spec"], cwd=directory, check=True, timeout=deadline(30))
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["process"] |= {"terminal": False, "args": list(command)}
    config["annotations"] = annotations or {}
    config["linux"].pop("seccomp", None)
    path.write_text(json.dumps(config))
    return directory


def run_bundle(bundle: Path, container_id: str, *options: str, runtime: str = "runc") -> str:
    """Run its container to the end; what it printed. ProgramError when that fails."""
    program = Runtime(runtime, str(bundle / "state"))
    return output(program.argv(*options, "run", "--bundle", str(bundle), container_id))
