"""The cache of generated headers: whole directories or none."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ig_py.errors import BuildError
from ig_py.toolchain import cache, headers


def visible(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir() if p.suffix != ".lock")


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ig-py"


def test_place(private_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_dir() == private_cache
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for useless in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", useless)
        assert cache.cache_dir() == tmp_path / "home/.cache/ig-py"


def test_filled_once(private_cache: Path) -> None:
    calls: list[Path] = []

    def fill(directory: Path) -> None:
        calls.append(directory)
        (directory / "f").write_text("x")

    assert cache.ensure_dir("a/b", fill) == private_cache / "a/b"
    assert cache.ensure_dir("a/b", fill) == private_cache / "a/b"
    assert len(calls) == 1
    assert (private_cache / "a/b/f").read_text() == "x"
    assert visible(private_cache / "a") == ["b"]


def test_a_failed_fill_leaves_nothing(private_cache: Path) -> None:
    def fill(directory: Path) -> None:
        (directory / "half").touch()
        raise BuildError("no")

    with pytest.raises(BuildError):
        cache.ensure_dir("a", fill)
    assert visible(private_cache) == []


def test_replaced(private_cache: Path) -> None:
    cache.ensure_dir("a", lambda d: (d / "old").touch())
    cache.replace_dir("a", lambda d: (d / "new").touch())
    assert visible(private_cache / "a") == ["new"]
    assert visible(private_cache) == ["a"]


def test_many_at_once(private_cache: Path) -> None:
    barrier = threading.Barrier(8)
    failures: list[BaseException] = []
    fills: list[int] = []

    def work() -> None:
        def fill(directory: Path) -> None:
            fills.append(1)
            for i in range(20):
                (directory / str(i)).write_text("x")

        barrier.wait()
        try:
            found = cache.ensure_dir("shared", fill)
            assert len(list(found.iterdir())) == 20
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(fills) == 1
    assert visible(private_cache) == ["shared"]


def test_unwritable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"writing the cache .*: Not a directory: set XDG_CACHE"):
        cache.ensure_dir("a", lambda _: None)


def test_headers_are_laid_out(private_cache: Path) -> None:
    directory = headers.include_dir()
    assert directory.parent == private_cache / "include"
    assert (directory / "gadget/macros.h").read_bytes().startswith(b"/* SPDX-License-Identifier")
    assert (directory / "bpf/bpf_helpers.h").is_file()
    assert headers.include_dir() == directory


def test_every_api_header_is_dual_licensed() -> None:
    found = {n: d for n, d in headers.headers().items() if n.startswith("gadget/")}
    assert len(found) >= 11
    for name, data in found.items():
        first = data.splitlines()[0]
        assert first == b"/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */", name


def test_what_a_killed_process_left_is_removed(private_cache: Path) -> None:
    left = private_cache / ".types-abcd_123"
    others = [private_cache / ".types-arm64-abcd_123", private_cache / ".types-abcd"]
    for directory in (left, *others):
        directory.mkdir(parents=True)
    cache.ensure_dir("types", lambda directory: (directory / "f").touch())
    assert not left.exists()
    assert all(directory.exists() for directory in others)
