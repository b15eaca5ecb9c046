"""Eight processes at one store: it is never broken, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.images import blob_files, hexes, image, index_doc, name

from ig_py.oci.store import Store

WORKER = Path(__file__).parents[1] / "support" / "store_worker.py"
SECONDS = 3


def test_writers_and_readers(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.add(image("kept"), name("kept:1"))
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(store.root), str(n), str(SECONDS), role],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n, role in enumerate(["write"] * 5 + ["read"] * 3)
    ]
    results = [w.communicate(timeout=120) for w in workers]
    assert [err for _, err in results] == [""] * 8
    assert [w.returncode for w in workers] == [0] * 8
    assert all(int(out) > 0 for out, _ in results)
    assert [i.name for i in store.images()] == [name("kept:1")]
    assert blob_files(store) == hexes(image("kept"))
    assert len(index_doc(store)["manifests"]) == 3
    assert list((store.root / "ingest").iterdir()) == []


def test_first_start_by_many(tmp_path: Path) -> None:
    """Every process finds no store yet and adds one image."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from support.images import image, name\n"
        "from ig_py.oci.store import Store\n"
        "Store.open(sys.argv[2]).add(image(sys.argv[3]), name(f'x{sys.argv[3]}:1'))\n"
    )
    root = tmp_path / "store"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(WORKER.parents[1]), str(root), str(n)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(8)
    ]
    assert [w.communicate(timeout=120)[1] for w in workers] == [""] * 8
    assert [i.name for i in Store.open(root).images()] == [name(f"x{n}:1") for n in range(8)]
