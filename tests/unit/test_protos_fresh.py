"""The committed protobuf modules are what their .proto files say."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTOS = Path("ig_py/containers/engines/protos")


def test_generated_modules_are_fresh(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/protos", tmp_path], check=True, timeout=60)
    made = sorted(p.name for p in (tmp_path / PROTOS).iterdir())
    assert made == sorted(p.name for p in (ROOT / PROTOS).glob("*_pb2.py*"))
    for name in made:
        committed = (ROOT / PROTOS / name).read_text()
        assert committed == (tmp_path / PROTOS / name).read_text(), f"run make protos: {name}"
