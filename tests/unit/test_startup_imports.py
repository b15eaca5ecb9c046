"""What a command does not import before it is needed: most of the time until it acts is imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.gadget_objects import tracer_object
from support.images import CREATED, image, name

from ig_py.host.architecture import host_architecture
from ig_py.oci.pack import GadgetFiles, pack
from ig_py.oci.store import Store

NETWORK = {"cryptography", "docker", "http", "nacl", "oras", "requests", "ssl", "urllib3"}
DOCUMENTS = {"jsonschema", "ruamel"}
BUILDING = {"concurrent", "subprocess", "tarfile", "tempfile"}
OURS = {
    "ig_py.oci.archive",
    "ig_py.oci.credentials",
    "ig_py.oci.registry",
    "ig_py.oci.transfer",
    "ig_py.oci.transport",
    "ig_py.toolchain",
}
ELSEWHERE = NETWORK | DOCUMENTS | BUILDING | OURS

COMMAND = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from ig_py.cli import main
sys.exit(main(sys.argv[1:]))
"""

# A run, up to its first wait for events, with a core that does nothing.
RUN = """
import os, sys, types

class Object:
    def __init__(self, *_): pass
    def programs(self): return [{"name": "prog"}]
    def stream(self, plan): return Stream()
    def __getattr__(self, name): return lambda *_, **__: None

class Stream:
    def pump(self, sink, timeout, *, busy_ms=None):
        print(*sys.modules, file=sys.stderr, flush=True)
        os._exit(0)
    def __getattr__(self, name): return lambda *_: None

class Writer:
    def __init__(self, fd, broken, *, limit, continuous): pass
    def __getattr__(self, name): return lambda *_: None

core = types.ModuleType("ig_py._core")
core.__dict__.update(Object=Object, Writer=Writer, probe=lambda _: True)
core.CoreError = type("E", (Exception,), {})
sys.modules["ig_py._core"] = core
os.geteuid = lambda: 0
import ig_py.cli
from ig_py.host import tracefs
tracefs.mounted = lambda: True
sys.exit(ig_py.cli.main(sys.argv[1:]))
"""


def imported(script: str, store: Path, *args: str) -> set[str]:
    """Every module, and every package above one, that was there in the end."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, *args],
        env={**os.environ, "IG_PY_STORE": str(store)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_version(tmp_path: Path) -> None:
    modules = imported(COMMAND, tmp_path, "version")
    assert "ig_py.version" in modules
    packages = {
        "click",
        "ig_py.oci",
        "ig_py.gadget",
        "ig_py.runtime",
        "ig_py.operators",
        "ig_py._core",
    }
    # Each of these takes a tenth of the time that Python needs to start, or more.
    slow = {"collections", "contextlib", "enum", "functools", "re", "signal", "types", "typing"}
    own = modules & (ELSEWHERE | packages | {"yaml", "hashlib"})
    assert own == set()
    assert (
        modules & slow - imported("import sys; print(*sys.modules, file=sys.stderr)", tmp_path)
        == set()
    )


def test_image_list(tmp_path: Path) -> None:
    Store(tmp_path).add(image(), name("a:v1"))
    modules = imported(COMMAND, tmp_path, "image", "list")
    assert "ig_py.oci.listing" in modules
    packages = {"ig_py.gadget", "ig_py.runtime", "ig_py.operators", "ig_py._core", "hashlib"}
    assert modules & (ELSEWHERE | packages | {"yaml", "shutil"}) == set()


@pytest.mark.parametrize("mode", ["json", "columns"])
def test_run_of_a_stored_image(tmp_path: Path, mode: str) -> None:
    elf = tracer_object(
        lambda btf: [("mntns_id", btf.typedef("gadget_mntns_id", btf.integer("__u64", 8)), 0)]
    )
    files = {host_architecture(): GadgetFiles(ebpf=elf)}
    Store(tmp_path).add(
        pack(files, b"name: a\n", builder_version="v0.1.0", created=CREATED), name("a:v1")
    )
    argv = ("run", "a:v1", "--verify-image=false", "--host", "--runtimes=", f"-o={mode}")
    slow = {"click", "dataclasses", "hashlib", "inspect", "platform", "random", "shutil", "signal"}
    slow |= {"ig_py.gadget.schema", "ig_py.inspect.docs", "ig_py.inspect.render", "ig_py.oci.auth"}
    for parses_metadata in (True, False):
        modules = imported(RUN, tmp_path, *argv)
        assert {"ig_py.containers.discovery", "ig_py.output.modes"} <= modules
        assert modules & (ELSEWHERE | slow) == set()
        assert ("yaml" in modules) == parses_metadata
