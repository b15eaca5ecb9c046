"""The store: files, index.json rules, damage, full disks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import features
from support.images import blob_files, hexes, image, index_doc, name

from ig_py.errors import ImageNotFound, IntegrityError, LimitError, StoreError
from ig_py.oci import ingest, limits, lock, media, walk
from ig_py.oci import store as store_module
from ig_py.oci.artifact import Descriptor
from ig_py.oci.listing import rows
from ig_py.oci.pack import GadgetFiles, pack
from ig_py.oci.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def no_warning(message: str) -> None:
    pytest.fail(f"unexpected warning: {message}")


def leftovers(store: Store) -> list[str]:
    return [str(p) for p in (store.root / "ingest").iterdir()] + [
        str(p) for p in store.root.glob(".*")
    ]


def test_reading_an_absent_image(store: Store) -> None:
    assert store.images() == []
    with pytest.raises(ImageNotFound):
        store.resolve(name("x:1"))
    with pytest.raises(ImageNotFound):
        store.remove(name("x:1"))
    with pytest.raises(ImageNotFound):
        store.tag(name("x:1"), name("y:1"))
    assert not store.root.exists()


def test_files_and_modes(store: Store) -> None:
    store.add(image(), name("x:1"))
    assert mode(store.root) == 0o700
    assert (store.root / "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'
    assert mode(store.root / "oci-layout") == 0o644
    assert mode(store.root / "index.json") == 0o644
    assert mode(store.root / "index.json.lock") == 0o600
    assert (store.root / "index.json.lock").read_bytes() == b""
    assert {mode(p) for p in (store.root / "blobs" / "sha256").iterdir()} == {0o444}
    assert leftovers(store) == []


def test_entries_of_a_built_image(store: Store) -> None:
    packed = image()
    store.add(packed, name("x:1"))
    doc = index_doc(store)
    assert list(doc) == ["schemaVersion", "mediaType", "manifests"]
    tagged = [e for e in doc["manifests"] if media.REF_NAME in e["annotations"]]
    assert len(tagged) == 1
    assert tagged[0]["digest"] == packed.index.digest
    assert tagged[0]["annotations"] == {
        media.CREATED: "2026-11-23T05:27:26Z",
        media.REF_NAME: name("x:1"),
    }
    untagged = [e for e in doc["manifests"] if media.REF_NAME not in e["annotations"]]
    assert [e["platform"]["architecture"] for e in untagged] == ["amd64", "arm64"]
    assert b" " not in (store.root / "index.json").read_bytes()


def test_a_second_tag_is_a_second_entry(store: Store) -> None:
    packed = image()
    store.add(packed, name("x:1"))
    assert store.tag(name("x:1"), name("y:2")).digest == packed.index.digest
    assert [i.name for i in store.images()] == [name("x:1"), name("y:2")]
    assert len(index_doc(store)["manifests"]) == 4


def test_tagging_twice_changes_nothing(store: Store) -> None:
    store.add(image(), name("x:1"))
    store.tag(name("x:1"), name("y:2"))
    before = index_doc(store)
    store.tag(name("x:1"), name("y:2"))
    store.add(image(), name("x:1"))
    after = index_doc(store)
    key = json.dumps
    assert sorted(map(key, after["manifests"])) == sorted(map(key, before["manifests"]))


def test_a_moved_tag_leaves_its_image_untagged(store: Store) -> None:
    old, new = image("a"), image("b")
    store.add(old, name("x:1"))
    store.add(new, name("x:1"))
    assert store.resolve(name("x:1")).digest == new.index.digest
    entry = next(e for e in index_doc(store)["manifests"] if e["digest"] == old.index.digest)
    assert media.REF_NAME not in entry["annotations"]
    assert store.resolve(old.index.digest).digest == old.index.digest


def test_untagged_builds_are_found_by_digest_and_can_be_tagged(store: Store) -> None:
    packed = image()
    store.add(packed)
    assert store.images() == []
    store.tag(packed.index.digest, name("x:1"))
    entries = [e for e in index_doc(store)["manifests"] if e["digest"] == packed.index.digest]
    assert len(entries) == 1


def test_listing(store: Store) -> None:
    for tag in ("localhost/x:1", name("b:1"), "a.b/c:1", "Docker.io/x:2", "ghcr.io/org/x:1"):
        store.add(image(), tag)
    assert [(r.repository, r.tag) for r in rows(store, no_warning)] == [
        ("Docker.io/x", "2"), ("a.b/c", "1"), ("b", "1"), ("ghcr.io/org/x", "1"),
        ("localhost/x", "1"),
    ]  # fmt: skip
    assert {r.created for r in rows(store, no_warning)} == {"2026-11-23T05:27:26Z"}


def test_removing_the_last_tag_deletes_the_blobs(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    store.add(image("b"), name("y:1"))
    store.remove(name("x:1"))
    assert blob_files(store) == hexes(image("b"))
    assert [i.name for i in store.images()] == [name("y:1")]
    assert all(
        e["digest"].partition(":")[2] in hexes(image("b")) for e in index_doc(store)["manifests"]
    )


def test_removing_one_of_two_tags_only_untags(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    store.tag(name("x:1"), name("y:1"))
    store.remove(name("x:1"))
    assert blob_files(store) == hexes(image("a"))
    store.remove(name("y:1"))
    assert blob_files(store) == set()
    assert index_doc(store)["manifests"] == []


def test_removing_collects_untagged_images_too(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    store.add(image("b"), name("x:1"))
    store.remove(name("x:1"))
    assert blob_files(store) == set()


def test_shared_blobs_stay(store: Store) -> None:
    shared = GadgetFiles(ebpf=b"same")
    for tag, wasm in (("x:1", b"1"), ("y:1", b"2")):
        files = {"amd64": shared, "arm64": GadgetFiles(ebpf=b"same", wasm=wasm)}
        store.add(pack(files, None, builder_version="v1", created="c"), name(tag))
    store.remove(name("x:1"))
    left = store.resolve(name("y:1"))
    assert walk.walk(store, left).total > 0
    for descriptor in walk.walk(store, left).blobs:
        store.read(descriptor)


def test_blobs_of_no_image_are_another_writers(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    stranger = store.root / "blobs" / "sha256" / ("ab" * 32)
    stranger.write_bytes(b"not yet listed")
    store.remove(name("x:1"))
    assert blob_files(store) == {stranger.name}


def signature(store: Store, subject: Descriptor, tag: str | None) -> Descriptor:
    from ig_py.oci import digest, gojson

    config = {
        "mediaType": media.EMPTY_CONFIG,
        "digest": digest.of(b"{}"),
        "size": 2,
        "data": "e30=",
    }
    doc: dict[str, Any] = {
        "schemaVersion": 2,
        "config": config,
        "layers": [],
        "subject": Descriptor(media.INDEX, subject.digest, subject.size).to_json(),
    }
    raw = gojson.dumps(doc)
    descriptor = Descriptor(media.MANIFEST, digest.of(raw), len(raw))
    with store.ingest() as session:
        session.write(descriptor, [raw])
        store.commit(session, [(descriptor, tag)])
    return descriptor


def test_referrers_go_with_their_image_and_stay_with_it(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    store.add(image("b"), name("y:1"))
    gone = signature(store, image("a").index, None)
    stays = signature(store, image("b").index, None)
    store.remove(name("x:1"))
    assert gone.digest.partition(":")[2] not in blob_files(store)
    assert stays.digest.partition(":")[2] in blob_files(store)
    assert store.resolve(stays.digest)


def test_a_signature_tag_keeps_itself_alive(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    tag = image("a").index.digest.replace(":", "-") + ".sig"
    kept = signature(store, image("a").index, tag)
    store.remove(name("x:1"))
    assert kept.digest.partition(":")[2] in blob_files(store)
    assert rows(store, no_warning) == []


@pytest.mark.parametrize("damage", ["truncate", "tamper", "grow", "directory", "fifo"])
def test_damaged_blobs_are_noticed_on_read(store: Store, damage: str) -> None:
    packed = image("a")
    store.add(packed, name("x:1"))
    layer = next(d for d in walk.walk(store, packed.index).blobs if d.size > 20)
    path = store.blob_path(layer.digest)
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "truncate":
            path.write_bytes(content[:-1])
        case "tamper":
            path.write_bytes(b"X" + content[1:])
        case "grow":
            path.write_bytes(content + b"X")
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
    with pytest.raises((IntegrityError, StoreError)) as caught:
        store.read(layer)
    assert layer.digest in str(caught.value)


def test_adding_heals_a_damaged_blob(store: Store) -> None:
    packed = image("a")
    store.add(packed, name("x:1"))
    for path in (store.root / "blobs" / "sha256").iterdir():
        path.chmod(0o644)
        path.write_bytes(b"broken")
    store.add(packed, name("x:1"))
    for descriptor in walk.walk(store, packed.index).blobs:
        store.read(descriptor)


def test_dangling_entries_are_tolerated(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    store.add(image("b"), name("y:1"))
    store.blob_path(image("a").index.digest).unlink()
    assert [r.repository for r in rows(store, no_warning)] == ["y"]
    store.remove(name("x:1"))
    assert {i.name for i in store.images()} == {name("y:1")}
    assert hexes(image("b")) <= blob_files(store)


def test_broken_images_are_listed_as_a_warning(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    path = store.blob_path(image("a").index.digest)
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    warnings: list[str] = []
    assert rows(store, warnings.append) == []
    assert name("x:1") in warnings[0]


def test_a_broken_document_elsewhere_stops_the_collection_only(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    store.add(image("b"), name("y:1"))
    path = store.blob_path(image("b").index.digest)
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    store.remove(name("x:1"))
    assert [i.name for i in store.images()] == [name("y:1")]
    assert hexes(image("b")) <= blob_files(store)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schemaVersion":2}', b'{"schemaVersion":2,"manifests":[{"digest":"x"}]}'],
)
def test_a_broken_index_is_told_and_left_alone(store: Store, content: bytes) -> None:
    store.add(image("a"), name("x:1"))
    (store.root / "index.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"index\.json"):
        store.images()
    with pytest.raises(IntegrityError, match=r"index\.json"):
        store.add(image("b"), name("y:1"))
    assert (store.root / "index.json").read_bytes() == content
    assert leftovers(store) == []


def test_huge_index_is_refused_before_it_is_read(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    with (store.root / "index.json").open("r+b") as file:
        file.truncate(limits.MAX_STORE_INDEX + 1)
    with pytest.raises(LimitError):
        store.images()


def test_readers_survive_writers_that_do_not_rename(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    path = store.root / "index.json"
    whole = path.read_bytes()
    fd = os.open(store.root / "index.json.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    path.write_bytes(whole[: len(whole) // 2])

    def finish() -> None:
        path.write_bytes(whole)
        os.close(fd)

    timer = threading.Timer(0.2, finish)
    timer.start()
    assert [i.name for i in store.images()] == [name("x:1")]
    timer.join()


def test_a_lock_that_is_never_released(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(image("a"), name("x:1"))
    fd = os.open(store.root / "index.json.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    started = time.monotonic()
    with (
        pytest.raises(StoreError, match="held by another process"),
        lock.exclusive(store.root / "index.json.lock", timeout=0.1),
    ):
        pytest.fail("the lock was free")
    assert time.monotonic() - started < 5
    os.close(fd)
    store.remove(name("x:1"))


@pytest.mark.parametrize("failing", ["write", "fsync", "index"])
def test_a_full_disk_leaves_nothing_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    store.add(image("a"), name("x:1"))
    before, blobs = index_doc(store), blob_files(store)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if failing == "index":
            patch.setattr(store, "_replace", full)
        elif failing == "fsync":
            patch.setattr(ingest.os, "fsync", full)
        else:
            patch.setattr(ingest.os, "fdopen", full)
        with pytest.raises(StoreError, match="No space left") as caught:
            store.add(image("b"), name("y:1"))
    assert "nothing incomplete" in str(caught.value)
    assert index_doc(store) == before
    assert leftovers(store) == []
    if failing != "index":
        assert blob_files(store) == blobs
    store.add(image("b"), name("y:1"))
    assert store.resolve(name("y:1"))


@pytest.mark.needs("tmpfs")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    target = tmp_path / "small"
    target.mkdir()
    if libc.mount(b"tmpfs", bytes(target), b"tmpfs", 0, b"size=256k") != 0:
        features.lack("tmpfs", os.strerror(ctypes.get_errno()))
    try:
        store = Store.open(target / "store")
        store.add(image("a"), name("x:1"))
        with pytest.raises(StoreError, match="No space left"):
            store.add(image("b", size=500_000), name("y:1"))
        assert [i.name for i in store.images()] == [name("x:1")]
        assert leftovers(store) == []
        assert blob_files(store) == hexes(image("a"))
    finally:
        libc.umount2(bytes(target), 2)


def test_leftovers_of_killed_writers_are_swept(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    dead = store.root / "ingest" / "igpy-dead"
    dead.mkdir()
    (dead / "half").write_bytes(b"x")
    foreign = store.root / "ingest" / "ab_123"
    foreign.write_bytes(b"x")
    old = store.root / "ingest" / "cd_456"
    old.write_bytes(b"x")
    os.utime(old, (1, 1))
    with store.ingest() as session:
        store.remove(name("x:1"))
        assert not dead.exists()
        assert not old.exists()
        assert foreign.exists()
        packed = image("b")
        session.write(packed.index, [packed.blobs[packed.index.digest]])
        store.commit(session, [(packed.index, name("y:1"))])
    assert leftovers(store) == [str(foreign)]


def test_blobs_removed_while_they_are_being_reused(store: Store) -> None:
    packed = image("a")
    store.add(packed, name("x:1"))
    walked = walk.walk(store, packed.index)
    with store.ingest() as session:
        everything = [*walked.blobs, *(d for d, _ in walked.documents)]
        assert all(session.adopt(d) for d in everything)
        store.remove(name("x:1"))
        assert blob_files(store) == set()
        store.commit(session, [(packed.index, name("y:1"))], walked.manifests)
    assert blob_files(store) == hexes(packed)


def test_absurd_sizes_are_refused_before_reading(store: Store) -> None:
    store.add(image("a"), name("x:1"))
    descriptor = store.resolve(name("x:1"))
    huge = Descriptor(media.EBPF_LAYER, descriptor.digest, 1 << 50)
    with pytest.raises(LimitError, match="declared size"):
        store.read(huge, limits.layer_limit(huge.media_type))


def test_the_path_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store_module.STORE_VARIABLE, str(tmp_path / "s"))
    assert Store.open().root == tmp_path / "s"
    assert Store.open(tmp_path / "t").root == tmp_path / "t"
    monkeypatch.delenv(store_module.STORE_VARIABLE)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Store.open().root == Path("/var/lib/ig/oci-store")


@pytest.mark.parametrize("kind", ["file", "below a file", "link to nowhere"])
def test_a_store_that_is_no_directory(tmp_path: Path, kind: str) -> None:
    """It is not an empty store: most such paths are mistakes."""
    place = tmp_path / "x"
    if kind == "link to nowhere":
        place.symlink_to("nowhere")
    else:
        place.write_text("root:x:0:0\n")
    store = Store(place / "store" if kind == "below a file" else place)
    for action in (
        store.images,
        lambda: store.resolve(name("x:1")),
        lambda: store.remove(name("x:1")),
        lambda: store.tag(name("x:1"), name("y:1")),
        lambda: store.add(image(), name("x:1")),
    ):
        with pytest.raises(StoreError) as caught:
            action()
        assert not isinstance(caught.value, ImageNotFound)


def test_a_link_to_a_store_is_a_store(tmp_path: Path) -> None:
    Store(tmp_path / "a").add(image(), name("x:1"))
    (tmp_path / "b").symlink_to("a")
    assert [i.name for i in Store(tmp_path / "b").images()] == [name("x:1")]


def test_files_of_a_store_that_lead_out(tmp_path: Path) -> None:
    """Another user may have made a directory that is named as a store or layout."""
    Store(tmp_path / "a").add(image(), name("x:1"))
    for file in ["index.json", f"blobs/sha256/{image().index.digest.partition(':')[2]}"]:
        good = tmp_path / "a" / file
        kept = good.rename(tmp_path / "kept")
        good.symlink_to(kept)
        store = Store(tmp_path / "a")
        with pytest.raises(StoreError, match="its path leaves the directory"):
            walk.reachable(store, [store.resolve(name("x:1"))])
        good.unlink()
        os.mkfifo(good)
        with pytest.raises(StoreError, match="it is a FIFO"):
            walk.reachable(store, [store.resolve(name("x:1"))])
        good.unlink()
        kept.rename(good)


@pytest.mark.parametrize("below", ["ingest", "blobs", "blobs/sha256"])
def test_directories_of_a_store_that_lead_out(tmp_path: Path, below: str) -> None:
    """Whoever can write the store's directory must not choose what is written or removed."""
    store = Store(tmp_path / "a")
    store.add(image("a"), name("x:1"))
    digest = image("a").index.digest.partition(":")[2]
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "igpy-x").mkdir(parents=True)
    for file in (elsewhere / "precious", elsewhere / digest, elsewhere / "igpy-x/y"):
        file.write_text("precious")
        os.utime(file, (1, 1))
    before = sorted(elsewhere.rglob("*"))
    (store.root / below).rename(tmp_path / "kept")
    (store.root / below).symlink_to(elsewhere)

    def attempts() -> Iterator[Callable[[], object]]:
        yield lambda: store.tag(name("x:1"), name("y:1"))
        yield lambda: store.add(image("b"), name("z:1"))
        yield lambda: store.remove(name("x:1"))

    for attempt in attempts():
        with contextlib.suppress(StoreError, ImageNotFound, IntegrityError):
            attempt()
        assert sorted(elsewhere.rglob("*")) == before
    with pytest.raises(StoreError):
        store.add(image("b"), name("z:1"))


def test_a_session_whose_directories_are_replaced_meanwhile(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    store.add(image("a"), name("x:1"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    packed = image("b")
    with store.ingest() as session:
        for below in ("ingest", "blobs/sha256"):
            (store.root / below).rename(tmp_path / below.replace("/", "-"))
            (store.root / below).symlink_to(elsewhere)
        descriptor = packed.index
        session.write(descriptor, [packed.blobs[descriptor.digest]])
        with pytest.raises(OSError):
            session.publish()
    assert list(elsewhere.iterdir()) == []
    assert list((tmp_path / "ingest").iterdir()) == []


def test_a_lock_that_leads_out_makes_no_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    store.add(image(), name("x:1"))
    (store.root / "index.json.lock").unlink()
    (store.root / "index.json.lock").symlink_to(tmp_path / "nologin")
    with pytest.raises(StoreError, match="Too many levels of symbolic links"):
        store.tag(name("x:1"), name("y:1"))
    assert not (tmp_path / "nologin").exists()
