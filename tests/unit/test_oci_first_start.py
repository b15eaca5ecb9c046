"""Eight processes find no store yet, and each adds an image: nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.images import name

from ig_py.oci.store import Store

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from support.images import image, name
from ig_py.oci.store import Store
Store.open(sys.argv[2]).add(image(sys.argv[3]), name(f"x{sys.argv[3]}:1"))
"""


def test_first_start_by_many(tmp_path: Path) -> None:
    root = tmp_path / "store"
    workers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", SCRIPT, str(Path(__file__).parents[1]), str(root), str(n)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(8)
    ]
    assert [w.communicate(timeout=120)[1] for w in workers] == [""] * 8
    assert [i.name for i in Store.open(root).images()] == [name(f"x{n}:1") for n in range(8)]
