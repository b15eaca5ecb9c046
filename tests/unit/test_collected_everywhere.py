"""Every machine collects the same tests: what one lacks is a skip with a reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.waiting import deadline

ROOT = Path(__file__).parents[2]
LAYERS = ["tests/unit", "tests/wire", "tests/kernel", "tests/interop"]
HIDDEN = ["/sys", "/boot", "/lib/modules", "/usr/src", "/run", "/var/lib/docker", "/var/lib/ig"]
"""What a machine's kernel, engines and stores would show."""
COLLECT = """
import platform, sys, pytest
platform.machine = lambda: sys.argv[1]
sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def collected(machine: str, environment: dict[str, str], *prefix: str) -> dict[str, int]:
    """Number of tests by file."""
    # -P: the installed package is tested, not the checkout, which may have no built core.
    argv = [*prefix, sys.executable, "-P", "-c", COLLECT, machine, *LAYERS]
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=deadline(120),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (line.rpartition(": ") for line in done.stdout.splitlines() if line.startswith("tests/"))
    return {file: int(count) for file, _, count in rows}


def hidden() -> tuple[str, ...]:
    """Begins a command that sees nothing in HIDDEN; root alone can do that."""
    if os.geteuid() != 0:
        return ()
    kept = [ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    places = [place for place in HIDDEN if not any(p.is_relative_to(place) for p in kept)]
    hide = "; ".join(f"[ ! -d {place} ] || mount -t tmpfs none {place}" for place in places)
    script = f'set -e; {hide}; exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")


def test_programs_kernel_and_architecture_do_not_matter(tmp_path: Path) -> None:
    here = collected("x86_64", {**os.environ})
    assert here.keys() >= {
        f"{layer}/{path.name}" for layer in LAYERS for path in Path(ROOT, layer).glob("test_*.py")
    }
    # The programs that hide are found, and clang is not.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("unshare", "sh", "mount"):
        (programs / name).symlink_to(shutil.which(name) or "/nowhere")
    bare = {"PATH": str(programs), "HOME": str(tmp_path)}
    if "PYTHONPATH" in os.environ:
        bare["PYTHONPATH"] = os.environ["PYTHONPATH"]
    assert collected("aarch64", bare, *hidden()) == here
