"""kill -9 at the system calls of every change to the store leaves a usable store."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import trust
from support.images import image, name
from support.registry_server import FaultyRegistry, serving

from ig_py.oci.archive import export_images
from ig_py.oci.reference import normalize
from ig_py.oci.store import Store

WORKER = Path(__file__).parents[1] / "support" / "kill_worker.py"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where /dev/shm exists: each killed process costs many fsyncs."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared, prefix="ig-py-test-") as name:
        yield Path(name)


def die(folder: Path, operation: str, argument: str = "-", *, stride: int = 1) -> int:
    """How many times it died, at every *stride*-th point."""
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder), operation, argument, str(stride)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


@pytest.mark.parametrize("operation", ["build", "tag", "remove", "prune"])
def test_local_changes(folder: Path, operation: str) -> None:
    assert die(folder, operation) >= 10


def test_import(folder: Path) -> None:
    store = Store.open(folder / "other")
    store.add(image("new"), name("new:1"))
    export_images([normalize("new:1")], store, folder / "x.tar")
    assert die(folder, "import", str(folder / "x.tar")) >= 20


def test_pull(folder: Path) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("new"))
        assert die(folder, "pull", f"{registry.host}/te:1", stride=3) >= 20


@pytest.mark.needs("openssl")
def test_sign(folder: Path) -> None:
    private, _ = trust.make_key(folder)
    assert die(folder, "sign", str(private), stride=2) >= 20
