"""Eight writers and two readers at one store: it is never broken, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.images import blob_files, hexes, image, index_doc, name

from ig_py.oci.store import Store

WORKER = Path(__file__).parents[1] / "support" / "store_worker.py"
SECONDS = 4
ROLES = ["write"] * 8 + ["read"] * 2


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
        for n, role in enumerate(ROLES)
    ]
    results = [w.communicate(timeout=120) for w in workers]
    assert [err for _, err in results] == [""] * len(ROLES)
    assert [w.returncode for w in workers] == [0] * len(ROLES)
    assert all(int(out) > 0 for out, _ in results)
    assert [i.name for i in store.images()] == [name("kept:1")]
    assert blob_files(store) == hexes(image("kept"))
    assert len(index_doc(store)["manifests"]) == 3
    assert list((store.root / "ingest").iterdir()) == []
