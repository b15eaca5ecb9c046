"""Export and import, and what an import refuses."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.images import blob_files, hexes, image, name

from ig_py.errors import ImageNotFound, IntegrityError, InvalidReference, LimitError, StoreError
from ig_py.oci import limits, media, tarfmt
from ig_py.oci.archive import export_images, import_images
from ig_py.oci.reference import normalize
from ig_py.oci.store import Store


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    store.add(image("b"), name("y:1"))
    target = tmp_path / "both.tar"
    export_images([normalize("x:1"), normalize("y:1")], store, target)
    return target


def test_there_and_back(tmp_path: Path, exported: Path) -> None:
    other = Store.open(tmp_path / "other")
    assert sorted(import_images(exported, other)) == [name("x:1"), name("y:1")]
    assert blob_files(other) == hexes(image("a")) | hexes(image("b"))
    assert other.resolve(name("x:1")).digest == image("a").index.digest
    again = tmp_path / "again.tar"
    export_images([normalize("y:1"), normalize("x:1")], other, again)
    assert again.read_bytes() == exported.read_bytes()
    import_images(exported, other)
    assert len(other.images()) == 2


def test_the_archives_shape(exported: Path) -> None:
    with tarfile.open(exported, format=tarfile.USTAR_FORMAT) as tar:
        members = tar.getmembers()
        index = json.loads(tar.extractfile("index.json").read())  # type: ignore[union-attr]
    names = [m.name for m in members]
    assert names == sorted(names)
    assert names[-2:] == ["index.json", "oci-layout"]
    assert {m.mode for m in members if m.name.startswith("blobs/")} == {0o444}
    assert {m.mode for m in members[-2:]} == {0o644}
    assert {(m.mtime, m.uid, m.gid, m.type) for m in members} == {(0, 0, 0, tarfile.REGTYPE)}
    digests = [m["digest"] for m in index["manifests"]]
    assert digests == sorted(digests)
    assert len(digests) == 6
    size = sum(512 + (m.size + 511) // 512 * 512 for m in members) + 1024
    assert exported.stat().st_size == size


def test_exporting_an_absent_image(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with pytest.raises(ImageNotFound):
        export_images([normalize("x:1")], store, tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def test_exporting_to_nowhere(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    with pytest.raises(StoreError, match="no such file or directory"):
        export_images([normalize("x:1")], store, tmp_path / "no" / "x.tar")
    with pytest.raises(StoreError, match="is a directory"):
        export_images([normalize("x:1")], store, tmp_path)


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    path = next(p for p in (tmp_path / "store" / "blobs" / "sha256").iterdir()
                if p.read_bytes().startswith(b"\x7fELF"))  # fmt: skip
    path.chmod(0o644)
    path.write_bytes(b"?" * path.stat().st_size)
    target = tmp_path / "x.tar"
    target.write_text("old")
    with pytest.raises(IntegrityError):
        export_images([normalize("x:1")], store, target)
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store", "x.tar"]


def test_a_link_at_the_target_is_replaced(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "x.tar").symlink_to(tmp_path / "precious")
    export_images([normalize("x:1")], store, tmp_path / "x.tar")
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "x.tar").is_symlink()


Change = Callable[[tarfile.TarInfo, bytes], list[tuple[tarfile.TarInfo, bytes]]]


def rewritten(source: Path, change: Change, fmt: int = tarfile.USTAR_FORMAT) -> bytes:
    """*source* with every member passed through *change*."""
    out = io.BytesIO()
    with tarfile.open(source) as old, tarfile.open(fileobj=out, mode="w", format=fmt) as new:
        for member in old.getmembers():
            file = old.extractfile(member)
            assert file is not None
            for info, data in change(member, file.read()):
                info.size = len(data) if info.isreg() else 0
                new.addfile(info, io.BytesIO(data))
    return out.getvalue()


def extra(info: tarfile.TarInfo) -> Change:
    done: list[int] = []

    def change(member: tarfile.TarInfo, data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
        first = [] if done else [(info, b"x")]
        done.append(1)
        return [*first, (member, data)]

    return change


def member(path: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = kind, link
    return info


HOSTILE = {
    "traversal": member("../../etc/cron.d/x"),
    "absolute": member("/etc/passwd"),
    "foreign": member("etc/passwd"),
    "manifest": member("manifest.json"),
    "upper": member("blobs/sha256/" + "A" * 64),
    "dots": member("blobs/sha256/../../../x"),
    "blob traversal": member("blobs/../index.json"),
    "unicode": member("blobs/sha256/é"),
    "symlink": member("index.json", tarfile.SYMTYPE, "/etc/passwd"),
    "blob symlink": member("blobs/sha256/" + "a" * 64, tarfile.SYMTYPE, "/etc/passwd"),
    "folder symlink": member("blobs", tarfile.SYMTYPE, "/etc"),
    "hardlink": member("blobs/sha256/" + "a" * 64, tarfile.LNKTYPE, "/etc/shadow"),
    "device": member("blobs/sha256/" + "a" * 64, tarfile.CHRTYPE),
    "fifo": member("oci-layout", tarfile.FIFOTYPE),
    "foreign folder": member("etc", tarfile.DIRTYPE),
    "sparse": member("blobs/sha256/" + "a" * 64, tarfile.GNUTYPE_SPARSE),
    "long name": member("blobs/sha256/" + "a" * 64, tarfile.GNUTYPE_LONGNAME),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members_are_refused(tmp_path: Path, exported: Path, case: str) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(rewritten(exported, extra(HOSTILE[case]), tarfile.GNU_FORMAT))
    store = Store.open(tmp_path / "other")
    with pytest.raises(IntegrityError):
        import_images(bad, store)
    assert store.images() == []


@pytest.mark.parametrize("twice", ["index.json", "oci-layout", "blobs"])
def test_duplicates_are_refused(tmp_path: Path, exported: Path, twice: str) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(rewritten(exported, lambda m, d: [(m, d)] * (1 + m.name.startswith(twice))))
    with pytest.raises(IntegrityError, match="twice"):
        import_images(bad, Store.open(tmp_path / "other"))


@pytest.mark.parametrize("key", ["path", "size", "linkpath", "GNU.sparse.size", "GNU.sparse.map"])
def test_extended_headers_that_redefine_are_refused(
    tmp_path: Path, exported: Path, key: str
) -> None:
    def change(member: tarfile.TarInfo, data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
        member.pax_headers = {key: "1"}
        return [(member, data)]

    bad = tmp_path / "bad.tar"
    raw = rewritten(exported, change, tarfile.PAX_FORMAT)
    bad.write_bytes(raw)
    with pytest.raises(IntegrityError, match="extended header"):
        import_images(bad, Store.open(tmp_path / "other"))


def test_harmless_extensions_and_folders_are_accepted(tmp_path: Path, exported: Path) -> None:
    def change(member: tarfile.TarInfo, data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
        member.pax_headers = {"mtime": "1.5"}
        member.name = "./" + member.name
        return [(member, data)]

    other = tmp_path / "other.tar"
    other.write_bytes(rewritten(exported, change, tarfile.PAX_FORMAT))
    with_folders = tmp_path / "folders.tar"
    with_folders.write_bytes(rewritten(other, extra(member("blobs/", tarfile.DIRTYPE))))
    for path in (other, with_folders):
        assert len(import_images(path, Store.open(tmp_path / path.stem))) == 2


def replaced(wanted: str, new: Callable[[bytes], bytes]) -> Change:
    def change(member: tarfile.TarInfo, data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
        return [(member, new(data) if member.name.startswith(wanted) else data)]

    return change


@pytest.mark.parametrize(
    ("wanted", "new"),
    [
        ("blobs/", lambda data: data[:-1]),
        ("blobs/", lambda data: b"X" + data[1:]),
        ("blobs/", lambda data: data + b"X"),
        ("index.json", lambda data: b""),
        ("index.json", lambda data: data[:-1]),
        ("index.json", lambda data: data.replace(b'"size":', b'"size":1')),
        ("index.json", lambda data: data.replace(b"oci.image.index", b"oci.image.other")),
        ("index.json", lambda data: data.replace(b"sha256:", b"sha256:../")),
        ("index.json", lambda data: b'{"schemaVersion":2,"manifests":[]}'),
    ],
)
def test_tampered_content_is_refused(
    tmp_path: Path, exported: Path, wanted: str, new: Callable[[bytes], bytes]
) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(rewritten(exported, replaced(wanted, new)))
    store = Store.open(tmp_path / "other")
    with pytest.raises((IntegrityError, LimitError)):
        import_images(bad, store)
    assert store.images() == []
    assert not (store.root / "blobs").exists() or blob_files(store) == set()


def test_missing_blobs_are_told(tmp_path: Path, exported: Path) -> None:
    gone: list[str] = []

    def change(member: tarfile.TarInfo, data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
        if data.startswith(b"\x7fELF") and not gone:
            gone.append(member.name)
            return []
        return [(member, data)]

    bad = tmp_path / "bad.tar"
    bad.write_bytes(rewritten(exported, change))
    with pytest.raises(ImageNotFound, match=gone[0].rpartition("/")[2]):
        import_images(bad, Store.open(tmp_path / "other"))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"x" * 5000, b"\0" * 511, b"\0" * 10240, gzip.compress(b"x" * 9000, mtime=0)],
)
def test_invalid_archives_are_refused(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"bad\.tar"):
        import_images(bad, Store.open(tmp_path / "other"))


def test_truncated_archives(tmp_path: Path, exported: Path) -> None:
    whole = exported.read_bytes()
    bad = tmp_path / "bad.tar"
    for cut in (100, 512, 700, 2000, len(whole) - 3000):
        bad.write_bytes(whole[:cut])
        with pytest.raises(IntegrityError):
            import_images(bad, Store.open(tmp_path / "other"))


def test_absurd_sizes(tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.tar"
    header = tarfmt.header_block("blobs/sha256/" + "a" * 64, 0o444, 8**11 - 1)
    bad.write_bytes(header + b"\0" * 1024)
    with pytest.raises(IntegrityError, match="beyond the end"):
        import_images(bad, Store.open(tmp_path / "other"))
    monkeypatch.setattr(limits, "MAX_ARCHIVE", 1000)
    with pytest.raises(LimitError):
        import_images(exported, Store.open(tmp_path / "other"))
    monkeypatch.setattr(limits, "MAX_ARCHIVE", 1 << 30)
    monkeypatch.setattr(limits, "MAX_ARCHIVE_MEMBERS", 3)
    with pytest.raises(LimitError):
        import_images(exported, Store.open(tmp_path / "other"))


@pytest.mark.parametrize("path", ["/nonexistent.tar", "/", "/dev/null"])
def test_paths_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    with pytest.raises(StoreError, match="open"):
        import_images(Path(path), Store.open(tmp_path / "other"))


def renamed(exported: Path, new: str) -> bytes:
    def rename(data: bytes) -> bytes:
        doc = json.loads(data)
        for entry in doc["manifests"]:
            if media.REF_NAME in entry.get("annotations", {}):
                entry["annotations"][media.REF_NAME] = new
        return json.dumps(doc).encode()

    return rewritten(exported, replaced("index.json", rename))


def test_names_of_other_tools(tmp_path: Path, exported: Path) -> None:
    other = tmp_path / "other.tar"
    other.write_bytes(renamed(exported, "tool:2"))
    assert import_images(other, Store.open(tmp_path / "other")) == [name("tool:2")]
    other.write_bytes(renamed(exported, "\x1b[2J"))
    with pytest.raises(InvalidReference):
        import_images(other, Store.open(tmp_path / "other"))


def test_signature_tags_are_imported_and_not_told(tmp_path: Path, exported: Path) -> None:
    tag = "sha256-" + "ab" * 32 + ".sig"
    other = tmp_path / "other.tar"
    other.write_bytes(renamed(exported, tag))
    store = Store.open(tmp_path / "other")
    assert import_images(other, store) == []
    assert [i.name for i in store.images()] == [tag]


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_never_crash_the_reader(raw: bytes) -> None:
    with contextlib.suppress(IntegrityError, LimitError):
        tarfmt.scan(io.BytesIO(raw), "it")


def test_sha512_names_fit() -> None:
    long = "blobs/sha512/" + "a" * 128
    with pytest.raises(LimitError):
        tarfmt.header_block(long, 0o444, 1)
    assert (
        tarfile.TarInfo.frombuf(
            tarfmt.header_block("blobs/sha256/" + "a" * 64, 0o444, 1), "ascii", "strict"
        ).size
        == 1
    )
