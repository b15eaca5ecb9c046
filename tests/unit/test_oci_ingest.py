"""Staging: sessions against sweeps, streams against descriptors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.images import image

from ig_py.errors import IntegrityError
from ig_py.oci import digest, ingest, media
from ig_py.oci.artifact import Descriptor
from ig_py.oci.store import Store

CONTENT = b"content"
GOOD = Descriptor(media.EBPF_LAYER, digest.of(CONTENT), len(CONTENT))


@pytest.mark.parametrize("moment", ["before open", "before lock"])
def test_a_sweep_between_making_and_locking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = Store.open(tmp_path)
    store.add(image())
    calls = 0
    module, name = (ingest.os, "open") if moment == "before open" else (ingest.fcntl, "flock")
    real = getattr(module, name)

    def swept(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            for path in (tmp_path / "ingest").iterdir():
                shutil.rmtree(path)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, swept)
    with store.ingest() as session:
        session.write(GOOD, [CONTENT])
        assert session.staged(GOOD)
    assert calls >= 2
    assert list((tmp_path / "ingest").iterdir()) == []


@pytest.mark.parametrize("chunks", [[b"contenX"], [b"conten"], [b"content", b"t"], []])
def test_wrong_streams_leave_nothing(tmp_path: Path, chunks: list[bytes]) -> None:
    store = Store.open(tmp_path)
    with store.ingest() as session:
        with pytest.raises(IntegrityError):
            session.write(GOOD, chunks)
        assert not session.staged(GOOD)
        assert not list((tmp_path / "ingest").glob("*/*"))


def test_failing_streams_leave_nothing(tmp_path: Path) -> None:
    def broken() -> Any:
        yield b"con"
        raise KeyboardInterrupt

    store = Store.open(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.ingest() as session:
        session.write(GOOD, broken())
    assert not list((tmp_path / "ingest").iterdir())
    assert not list((tmp_path / "blobs").glob("*/*"))


def test_nothing_is_visible_before_the_commit(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with store.ingest() as session:
        session.write(GOOD, [CONTENT])
        assert not store.blob_path(GOOD.digest).exists()
        store.commit(session, [])
    assert store.read(GOOD) == CONTENT
    assert store.blob_path(GOOD.digest).stat().st_nlink == 1
