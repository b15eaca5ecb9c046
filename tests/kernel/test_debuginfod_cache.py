"""``--symbolizers debuginfod-cache``: names of a program that has none itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gadget_format import GADGETS, GadgetTest
from support.gadget_runner import GadgetUnderTest, load
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "binutils"),
    pytest.mark.any_kernel,
    pytest.mark.timeout(120),
]

NAMED = re.compile(r"asks_for_its_group; (calls_what_asks; )?main; ")


@pytest.fixture
def stripped(tmp_path: Path) -> tuple[Path, str, Path]:
    """A program, its build id, and what was stripped from it."""
    program, symbols = tmp_path / "program", tmp_path / "symbols"
    source = str(GADGETS / "stacks/workload.c")
    argv = ["cc", "-O1", "-g0", "-fno-inline", "-Wl,--build-id", source, "-o", str(program)]
    subprocess.run(argv, check=True, timeout=60)
    subprocess.run(["objcopy", "--only-keep-debug", str(program), str(symbols)], check=True)
    subprocess.run(["strip", "--strip-all", str(program)], check=True)
    notes = subprocess.run(["readelf", "-n", str(program)], capture_output=True, check=True)
    found = re.search(rb"Build ID: ([0-9a-f]+)", notes.stdout)
    assert found is not None
    return program, found[1].decode(), symbols


@pytest.fixture
def running(stripped: tuple[Path, str, Path]) -> Iterator[int]:
    process = subprocess.Popen([str(stripped[0])], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.wait()


def stack(directory: Path, pid: int, **params: str) -> str:
    """The names of one of the program's stacks."""
    values = {key.replace("_", "-"): value for key, value in params.items()}
    values |= {"host": "true", "collect-ustack": "true", "pid": str(pid)}

    def event() -> dict[str, Any] | None:
        assert gadget.failure is None, gadget.failure
        return next(iter(gadget.events()["calls"]), None)

    with GadgetUnderTest(load(GadgetTest("stacks", "x"), directory, {}), values) as gadget:
        found = wait_for(event, "a stack", 30)
    return str(found["ustack"]["symbols"])


def test_names_come_from_the_cache(
    stripped: tuple[Path, str, Path],
    running: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, build_id, symbols = stripped
    cache = tmp_path / "cache"
    wanted = {"symbolizers": "symtab,debuginfod-cache", "debuginfod_cache_path": str(cache)}
    assert not NAMED.match(stack(tmp_path, running, symbolizers="symtab"))
    assert not NAMED.match(stack(tmp_path, running, **wanted))
    assert f"{cache} has no symbols of" in caplog.text
    assert build_id in caplog.text
    (cache / build_id).mkdir(parents=True)
    shutil.copy(symbols, cache / build_id / "debuginfo")
    caplog.clear()
    names = stack(tmp_path, running, **wanted)
    assert NAMED.match(names)
    assert build_id not in caplog.text
    # Behind main() is the C library, which the cache does not have.
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(cache))
    alone = stack(tmp_path, running, symbolizers="debuginfod-cache")
    assert NAMED.match(alone)
    assert alone.split("main; ")[1].startswith("0x")


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"x" * 5000])
def test_invalid_symbol_files_name_nothing(
    stripped: tuple[Path, str, Path], running: int, tmp_path: Path, content: bytes
) -> None:
    place = tmp_path / "cache" / stripped[1]
    place.mkdir(parents=True)
    (place / "debuginfo").write_bytes(content)
    names = stack(
        tmp_path,
        running,
        symbolizers="debuginfod-cache",
        debuginfod_cache_path=str(tmp_path / "cache"),
    )
    assert names.startswith("0x")
