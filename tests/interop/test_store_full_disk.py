"""On a full file system the error says so, and the images in the store stay intact."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import features, trust
from support.images import image, name
from support.registry_cases import make_quick, options
from support.registry_server import FaultyRegistry, serving

from ig_py.errors import RegistryError, StoreError
from ig_py.oci import staging, walk
from ig_py.oci.archive import export_images, import_images
from ig_py.oci.login import login
from ig_py.oci.reference import normalize
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull
from ig_py.oci.trust.privatekeys import load_private_key
from ig_py.oci.trust.sign import FORMATS, sign

pytestmark = pytest.mark.needs("root", "tmpfs")

SIZE_KIB = 1024
PAGE = 4096
NEW = image("new", size=20_000)
Operation = Callable[[Store], object]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_KIB}k", "tmpfs", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        features.lack("tmpfs", done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def store(disk: Path) -> Store:
    store = Store.open(disk / "store")
    store.add(image("old"), name("old:1"))
    return store


def fill(disk: Path, leave: int) -> None:
    """All but *leave* bytes."""
    info = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        file.write(bytes(max(0, info.f_bavail * info.f_frsize - leave)))


def whole(store: Store) -> None:
    """Every image that is listed can be read."""
    again = Store.open(store.root)
    names = {i.name for i in again.images()}
    assert name("old:1") in names
    for stored in again.images():
        for descriptor in walk.walk(again, stored.descriptor).blobs:
            again.read(descriptor, walk.blob_limit(descriptor))
    assert list((store.root / "ingest").iterdir()) == []


def starve(disk: Path, store: Store, operation: Operation, *, most: int) -> None:
    """Run *operation* with ever more space, up to *most* bytes, until it succeeds."""
    failures = 0
    for leave in range(0, most, PAGE):
        fill(disk, leave)
        try:
            operation(store)
        except StoreError as err:
            failures += 1
            assert "No space left" in err.message or "has" in err.message, err
            assert "free some space" in err.remedy
        else:
            break
        finally:
            (disk / "filler").unlink()
        whole(store)
    else:
        raise AssertionError(f"never succeeded with {most} bytes")
    assert failures >= 1
    whole(store)


def test_build(disk: Path, store: Store) -> None:
    starve(disk, store, lambda s: s.add(NEW, name("new:1")), most=400_000)


def test_tag(disk: Path, store: Store) -> None:
    long = name("t" * 100)
    starve(disk, store, lambda s: s.tag(name("old:1"), long + ":1"), most=100_000)


def test_import(disk: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "DISK_RESERVE", -(1 << 40))
    other = Store.open(tmp_path / "other")
    other.add(NEW, name("new:1"))
    export_images([normalize("new:1")], other, tmp_path / "x.tar")
    starve(disk, store, lambda s: import_images(tmp_path / "x.tar", s), most=400_000)


@pytest.mark.parametrize("asks_first", [True, False])
def test_pull(disk: Path, store: Store, monkeypatch: pytest.MonkeyPatch, asks_first: bool) -> None:
    """Downloads that cannot fit are not begun; others may have taken the space since."""
    make_quick(monkeypatch)
    monkeypatch.setattr(staging, "DISK_RESERVE", 0 if asks_first else -(1 << 40))
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", NEW)
        reference = normalize(f"{registry.host}/te:1")
        if asks_first:
            fill(disk, PAGE)
            with pytest.raises(StoreError, match=r"has .* left and needs"):
                pull(reference, store, options(registry))
            assert registry.seen("/blobs/") == []
            (disk / "filler").unlink()
        starve(disk, store, lambda s: pull(reference, s, options(registry)), most=400_000)


def test_sign(disk: Path, store: Store, tmp_path: Path) -> None:
    private, _ = trust.make_key(tmp_path)
    key = load_private_key(str(private), lambda: "")
    starve(disk, store, lambda s: sign(normalize("old:1"), s, key, FORMATS), most=200_000)


def test_remove_makes_room(disk: Path, store: Store) -> None:
    """The very thing to do then works on a full disk, or says why not."""
    store.add(NEW, name("new:1"))
    fill(disk, 0)
    try:
        store.remove(name("new:1"))
    except StoreError as err:
        assert "No space left" in err.message
        (disk / "filler").unlink()
        store.remove(name("new:1"))
    whole(store)
    assert {i.name for i in store.images()} == {name("old:1")}


def test_export(disk: Path, store: Store) -> None:
    fill(disk, PAGE)
    with pytest.raises(StoreError, match=r"(?i)no space left"):
        export_images([normalize("old:1")], store, disk / "x.tar")
    assert sorted(p.name for p in disk.iterdir()) == ["filler", "store"]


def test_credentials(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were kept stay."""
    make_quick(monkeypatch)
    kept = disk / "auth.json"
    with serving(FaultyRegistry(login=("u", "p"), scheme="basic")) as registry:
        login(registry.host, "u", "p", authfile=str(kept), plain_http=True)
        before = kept.read_bytes()
        fill(disk, 0)
        with pytest.raises(RegistryError, match="No space left"):
            login(registry.host.replace("127.0.0.1", "localhost"), "u", "p",
                  authfile=str(kept), plain_http=True)  # fmt: skip
    assert kept.read_bytes() == before
    assert not [p for p in disk.iterdir() if p.name.startswith(".auth.json.")
                and not p.name.endswith(".lock")]  # fmt: skip
