"""The loop that bench/instructions.py counts: PLAN MODE SAMPLES ROUNDS."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ig_py._core import pipeline

_MNTNS = 4_026_531_841
_COLUMNS = ("runtime.containerName", "proc.comm", "proc.pid", "fd", "fname", "mode", "timestamp")


def _sample(source: dict[str, Any], number: int) -> bytes:
    at = {field["full_name"]: field["offset"] for field in source["fields"]}
    sample = bytearray(source["sample_size"])
    numbers = {
        "timestamp_raw": (3_600_000_000_000 + number * 3_333, 8),
        "proc.pid": (31_000 + number % 7, 4),
        "proc.mntns_id": (_MNTNS, 8),
        "fd": (number % 64, 4),
    }
    texts = {"proc.comm": "nginx", "fname": f"/usr/share/nginx/html/page-{number}.html"}
    raw = {name: value.to_bytes(size, sys.byteorder) for name, (value, size) in numbers.items()}
    for name, data in (raw | {name: text.encode() for name, text in texts.items()}).items():
        sample[at[name] : at[name] + len(data)] = data
    return bytes(sample)


def main(plan: str, mode: str, samples: int, rounds: int) -> None:
    document = json.loads(Path(plan).read_text())
    source = document["datasources"][0]
    source["output"] = {"mode": mode}
    if mode == "columns":
        ids = {field["full_name"]: field["id"] for field in source["fields"]}
        source["output"]["columns"] = [{"field": ids[name], "width": 16} for name in _COLUMNS]
    stream = pipeline(json.dumps(document))
    stream.set_container(_MNTNS, 0, {"runtime.containerName": "web-1"})
    given = [_sample(source, number) for number in range(samples)]
    for _ in range(rounds):
        assert stream.push(source["name"], given).events == samples


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
