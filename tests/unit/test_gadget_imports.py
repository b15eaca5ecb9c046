"""Reading images needs neither the native core nor this operating system."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "ig_py._core":
            raise ImportError("the native core was imported")

sys.meta_path.insert(0, Refuse())

def import_all(package):
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, package + "."):
        importlib.import_module(module.name)

import_all("ig_py.gadget")
import_all("ig_py.operators")
heavy = {"docker", "oras", "requests", "jsonschema", "ruamel", "yaml", "grpc"} & set(sys.modules)
if heavy:
    sys.exit(f"imported at module level: {sorted(heavy)}")
import_all("ig_py.oci")
"""


def test_no_core_and_nothing_heavy_at_import() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
