"""The account of a run whose output is cut: `emitted` is what stands whole in the output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.root_gadget import image_tar
from support.running_gadget import IG_PY, RUNNING
from support.waiting import deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(600),
]

ROOM = 16_384
"""Bytes of the small disk: less than 200 rows of columns, the shortest of the modes (190 bytes)."""
ACCOUNT = re.compile(r"^exec: (\d+) events emitted, (\d+) lost$", re.MULTILINE)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


def lines(text: str) -> int:
    return text.count("\n")


def rows(text: str) -> int:
    """Without the header of the columns."""
    return max(0, lines(text) - 1)


def documents(text: str) -> int:
    decoder, at, found = json.JSONDecoder(), 0, 0
    while at < len(text):
        try:
            _, at = decoder.raw_decode(text, at)
        except ValueError:
            break
        if text[at : at + 1] != "\n":
            break
        found, at = found + 1, at + 1
    return found


def yaml_documents(text: str) -> int:
    """All but the last have the beginning of another behind them; the last may be cut."""
    parts = text.split("---\n")[1:]
    keys = [list(yaml.safe_load(part) or {}) for part in parts[:-1]]
    assert all(k == keys[0] for k in keys)
    last = parts[-1]
    try:
        loaded = yaml.safe_load(last)
    except yaml.YAMLError:
        return len(keys)
    whole = last.endswith("\n") and isinstance(loaded, dict) and list(loaded) == keys[0]
    return len(keys) + whole


MODES: dict[str, Callable[[str], int]] = {
    "json": lines,
    "jsonpretty": documents,
    "yaml": yaml_documents,
    "columns": rows,
}


def command(image: str, mode: str) -> list[str]:
    return [IG_PY, "run", image, "--verify-image=false", "--host", "-v", "-o", mode]


def executions(number: int) -> None:
    for _ in range(number):
        subprocess.run(["/bin/true", "x" * 300], check=True, timeout=deadline(30))


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk(tmp_path: Path, image: str, mode: str) -> None:
    disk, err = tmp_path / "disk", tmp_path / "err"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "small", disk], check=True, timeout=30
    )
    try:
        with (disk / "out").open("wb") as out, err.open("wb") as told:
            run = subprocess.Popen(command(image, mode), stdout=out, stderr=told)
            wait_for(lambda: RUNNING in err.read_text(), "it runs", deadline(60))
            executions(200)
            code = run.wait(deadline(60))
        text = (disk / "out").read_text(errors="replace")
    finally:
        subprocess.run(["umount", disk], check=True, timeout=30)
    account = ACCOUNT.search(err.read_text())
    assert account is not None, err.read_text()
    assert code == 1
    assert "No space left on device" in err.read_text()
    assert int(account[1]) == MODES[mode](text) > 0
    assert int(account[2]) > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_stopped_reader_and_a_signal(tmp_path: Path, image: str, mode: str) -> None:
    err = tmp_path / "err"
    read, write = os.pipe()
    with err.open("wb") as told:
        run = subprocess.Popen(command(image, mode), stdout=write, stderr=told)
        os.close(write)
        wait_for(lambda: RUNNING in err.read_text(), "it runs", deadline(60))
        executions(300)
        run.send_signal(signal.SIGTERM)
        run.wait(deadline(60))
    with os.fdopen(read, "rb") as file:
        text = file.read().decode(errors="replace")
    account = ACCOUNT.search(err.read_text())
    assert account is not None, err.read_text()
    assert int(account[1]) == MODES[mode](text) > 0
    assert int(account[1]) + int(account[2]) >= 300
