"""The running kernel's types in an image's btfgen layer."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from ig_py.errors import LimitError, ObjectError
from ig_py.host.proc import HostView
from ig_py.runtime import btf_archive
from ig_py.runtime.image_btf import ImageBtf, parse_os_release

KERNEL = os.uname()
MEMBER = f"debian/12/{KERNEL.machine}/{KERNEL.release}.btf"


def layer(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    return tmp_path


def found(root: Path, *layers: bytes) -> bytes | None:
    return ImageBtf(layers, HostView(str(root)), "g").find()


def test_the_running_kernel_is_found(root: Path) -> None:
    other = layer({f"debian/11/{KERNEL.machine}/{KERNEL.release}.btf": b"other"})
    assert found(root, layer({"x/y/z/1.btf": b"no", MEMBER: b"types"})) == b"types"
    assert found(root, layer({f"./{MEMBER}": b"types"})) == b"types"
    assert found(root, other, layer({MEMBER: b"types"})) == b"types"
    assert found(root, other) is None
    assert found(root) is None


def test_the_os_release_of_distributions_that_keep_it_in_usr(root: Path) -> None:
    (root / "usr/lib").mkdir(parents=True)
    (root / "etc/os-release").rename(root / "usr/lib/os-release")
    (root / "etc/os-release").symlink_to("/usr/lib/os-release")
    assert found(root, layer({MEMBER: b"types"})) == b"types"
    (root / "etc/os-release").unlink()
    assert found(root, layer({MEMBER: b"types"})) == b"types"


def test_what_is_missing_is_told(root: Path) -> None:
    def why(*layers: bytes) -> str:
        return ImageBtf(layers, HostView(str(root)), "g").why_not()

    assert why() == "the image brings no types of kernels"
    assert why(b"") == f"the image brings no {MEMBER}"
    (root / "etc/os-release").write_text("ID=arch\n")
    assert why(b"") == "os-release does not tell this distribution's name and version"
    assert found(root, b"not even read") is None


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("ID=ubuntu\nVERSION_ID=\"22.04\"\nPRETTY_NAME='x'", ("ubuntu", "22.04")),
        ("VERSION_ID='12'\n  ID=debian  \nID_LIKE=x", ("debian", "12")),
        ("ID=debian", None),
        ("ID=..\nVERSION_ID=12", None),
        ("ID=a/b\nVERSION_ID=12", None),
        ('ID="debian\nVERSION_ID=12', None),
        ("", None),
    ],
)
def test_os_release(text: str, distribution: tuple[str, str] | None) -> None:
    assert parse_os_release(text) == distribution


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip",
        gzip.compress(b"no tar" * 200),
        layer({MEMBER: b"x" * 20_000})[:-200],
        gzip.compress(tarfile.TarInfo("x").tobuf()[:300]),
    ],
    ids=["empty", "no gzip", "no tar", "cut", "a cut header"],
)
def test_what_is_no_archive_is_refused(root: Path, data: bytes) -> None:
    with pytest.raises(ObjectError, match="running gadget g: reading the image's BTF layer: "):
        found(root, data)


def test_limits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = layer({"a": bytes(200_000), MEMBER: bytes(5000)})
    monkeypatch.setattr(btf_archive, "MAX_TYPES", 4999)
    with pytest.raises(LimitError, match="has 5000 bytes, at most 4999"):
        found(root, big)
    monkeypatch.setattr(btf_archive, "MAX_UNPACKED", 100_000)
    with pytest.raises(LimitError, match="more than 100000 bytes when unpacked"):
        found(root, big)
    half = layer({"a": bytes(60_000)})
    assert found(root, half) is None
    with pytest.raises(LimitError, match="more than 100000 bytes when unpacked"):
        ImageBtf((half, half), HostView(str(root)), "g").find()
    monkeypatch.setattr(btf_archive, "MAX_MEMBERS", 1)
    with pytest.raises(LimitError, match="more than 1 members"):
        found(root, layer({"a": b"", MEMBER: b""}))


def test_many_extended_headers_are_refused(root: Path) -> None:
    pax = tarfile.TarInfo("x")
    pax.type = tarfile.XHDTYPE
    with pytest.raises(ObjectError, match="BTF layer"):
        found(root, gzip.compress(pax.tobuf() * 5000))
