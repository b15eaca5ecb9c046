"""A bundle for runc: busybox, and a command; no engine is needed to run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from support.oci_runtime import Runtime
from support.waiting import deadline

APPLETS = ("sh", "echo", "true", "sleep", "unshare")


def make_bundle(directory: Path, *argv: str, runtime: str = "runc") -> Path:
    """A bundle in *directory*, whose container runs *argv*."""
    binaries = directory / "rootfs/bin"
    if not binaries.exists():
        binaries.mkdir(parents=True)
        busybox = shutil.which("busybox", path=os.environ["PATH"] + ":/bin:/usr/bin")
        assert busybox is not None
        shutil.copy(busybox, binaries / "busybox")
        for applet in APPLETS:
            (binaries / applet).symlink_to("busybox")
        subprocess.run([runtime, "spec"], cwd=directory, check=True, timeout=deadline(30))
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = list(argv)
    path.write_text(json.dumps(config))
    return directory


def run_bundle(bundle: Path, container_id: str, *options: str, runtime: str = "runc") -> str:
    """Run its container to the end; what it printed."""
    root = bundle / "state"
    words = (*options, "run", "--bundle", str(bundle), container_id)
    argv = Runtime(runtime, str(root)).argv(*words)
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=deadline(60),
    )
    return done.stdout
