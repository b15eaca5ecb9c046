"""Which clang is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from ig_py.errors import BuildError
from ig_py.toolchain import clang


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLANG", raising=False)
    monkeypatch.delenv("LLVM_STRIP", raising=False)
    return tmp_path


def put(directory: Path, name: str, answer: str = "") -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{answer}'\n")
    path.chmod(0o755)
    return str(path)


def test_none(bin_dir: Path) -> None:
    assert clang.find_clang() is None
    with pytest.raises(BuildError, match="no clang 14 or newer in PATH: install clang"):
        clang.require_clang()


def test_plain_clang_first(bin_dir: Path) -> None:
    plain = put(bin_dir, "clang", "Debian clang version 14.0.6")
    put(bin_dir, "clang-19", "Debian clang version 19.1.7 (3~deb12u1)")
    strip = put(bin_dir, "llvm-strip-14")
    put(bin_dir, "llvm-strip")
    assert clang.find_clang() == clang.Clang(plain, strip, 14)


def test_an_old_plain_clang_is_passed_over(bin_dir: Path) -> None:
    put(bin_dir, "clang", "clang version 11.0.1-2")
    put(bin_dir, "clang-15", "clang version 15.0.0")
    newest = put(bin_dir, "clang-18", "clang version 18.1.8")
    strip = put(bin_dir, "llvm-strip")
    assert clang.find_clang() == clang.Clang(newest, strip, 18)


def test_something_that_is_not_clang(bin_dir: Path) -> None:
    put(bin_dir, "clang", "gcc (Debian) 12.2.0")
    assert clang.find_clang() is None


def test_a_clang_that_fails(bin_dir: Path) -> None:
    (bin_dir / "clang").write_text("#!/bin/sh\nexit 1\n")
    (bin_dir / "clang").chmod(0o755)
    assert clang.find_clang() is None


def test_without_strip(bin_dir: Path) -> None:
    put(bin_dir, "clang", "clang version 16.0.0")
    with pytest.raises(BuildError, match="neither llvm-strip-16 nor llvm-strip: install llvm-16"):
        clang.find_clang()


def test_overrides(bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bin_dir, "clang", "clang version 14.0.0")
    mine = put(bin_dir, "my-clang", "clang version 17.0.0")
    strip = put(bin_dir, "my-strip")
    monkeypatch.setenv("CLANG", "my-clang")
    monkeypatch.setenv("LLVM_STRIP", "my-strip")
    assert clang.find_clang() == clang.Clang(mine, strip, 17)


@pytest.mark.parametrize("answer", ["clang version 13.0.0", "cc 1.0"])
def test_an_unusable_override_is_an_error(
    bin_dir: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    put(bin_dir, "mine", answer)
    monkeypatch.setenv("CLANG", "mine")
    with pytest.raises(BuildError, match="CLANG=mine is not clang 14 or newer"):
        clang.find_clang()
    monkeypatch.setenv("CLANG", "other")
    with pytest.raises(BuildError, match="CLANG=other does not exist"):
        clang.find_clang()


def test_a_newer_one(bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bin_dir, "clang", "clang version 14.0.0")
    put(bin_dir, "clang-14", "clang version 14.0.0")
    put(bin_dir, "llvm-strip")
    old = clang.require_clang()
    assert clang.newer_clang(old) is None
    put(bin_dir, "clang-15", "broken")
    following = put(bin_dir, "clang-16", "clang version 16.0.0")
    put(bin_dir, "clang-17", "clang version 17.0.0")
    assert clang.newer_clang(old) == clang.Clang(following, old.strip, 16)
    monkeypatch.setenv("CLANG", "clang")
    assert clang.newer_clang(old) is None
