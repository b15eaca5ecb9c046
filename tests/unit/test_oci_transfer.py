"""Downloads that go on where they broke off, several at once; uploads in pieces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.images import blob_files, hexes, image
from support.registry_cases import assert_clean, do_pull, make_quick, options
from support.registry_server import FaultyRegistry, Reply, Request, serving

from ig_py.errors import IntegrityError, RegistryError, RegistryUnavailable
from ig_py.oci import parallel, transport, upload
from ig_py.oci.reference import normalize
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull, push

BIG = image("big", size=400_000)


class Count:
    expected = moved = 0

    def expect(self, size: int) -> None:
        self.expected += size

    def advance(self, size: int) -> None:
        self.moved += size


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyRegistry]:
    make_quick(monkeypatch)
    with serving(FaultyRegistry()) as served:
        served.put("te", "1", BIG)
        yield served


def breaks_off(times: int, after: int) -> Any:
    """Each blob's first answers end after so many bytes."""
    left: dict[str, int] = {}

    def fault(request: Request, reply: Reply) -> Reply:
        left.setdefault(request.path, times)
        left[request.path] -= 1
        return replace(reply, cut=after) if left[request.path] >= 0 else reply

    return fault


@pytest.mark.parametrize("ranges", [True, False])
def test_downloads_go_on(registry: FaultyRegistry, store: Store, ranges: bool) -> None:
    registry.ranges = ranges
    registry.on("GET .*/blobs/", breaks_off(2, 100_000))
    count = Count()
    pull(normalize(f"{registry.host}/te:1"), store, options(registry), count)
    assert blob_files(store) == hexes(BIG)
    assert count.expected == count.moved
    asked = [r.headers["range"] for r in registry.seen("GET .*/blobs/") if "range" in r.headers]
    # A registry without ranges sends everything again, and breaks off at the same place.
    assert set(asked) == {"bytes=100000-", "bytes=200000-" if ranges else "bytes=100000-"}
    assert len(asked) == 2 * len(registry.seen("GET .*/blobs/")) / 3


def test_downloads_that_never_end(registry: FaultyRegistry, store: Store) -> None:
    registry.on("GET .*/blobs/", breaks_off(1000, 10))
    with pytest.raises(RegistryUnavailable, match="closed the connection early"):
        do_pull(registry, store)
    tries = [r.path for r in registry.seen("GET .*/blobs/")]
    assert max(tries.count(path) for path in tries) == transport.MAX_RESUMES + 1
    assert_clean(store)


@pytest.mark.parametrize("sent", ["bytes 0-99/400000", "bytes 1-2/3", "", "x"])
def test_another_part_than_asked_for(registry: FaultyRegistry, store: Store, sent: str) -> None:
    cut = breaks_off(1, 100_000)

    def fault(request: Request, reply: Reply) -> Reply:
        if "range" in request.headers:
            reply.headers["Content-Range"] = sent
        return cut(request, reply)  # type: ignore[no-any-return]

    registry.on("GET .*/blobs/", fault)
    with pytest.raises(RegistryError, match="instead of byte 100000 on"):
        do_pull(registry, store)
    assert_clean(store)


def test_other_content_after_a_break(registry: FaultyRegistry, store: Store) -> None:
    cut = breaks_off(1, 100_000)

    def fault(request: Request, reply: Reply) -> Reply:
        if "range" in request.headers:
            reply.body = b"?" * len(reply.body)
        return cut(request, reply)  # type: ignore[no-any-return]

    registry.on("GET .*/blobs/", fault)
    with pytest.raises(IntegrityError, match="digest"):
        do_pull(registry, store)
    assert_clean(store)


def test_busy_registries_are_given_time(
    registry: FaultyRegistry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    answers = iter([Reply(429, headers={"Retry-After": "3"}),
                    Reply(503, headers={"Retry-After": "86400"})])  # fmt: skip
    registry.on("GET .*/manifests/1$", lambda _, reply: next(answers, reply))
    do_pull(registry, store)
    assert waits == [3.0, transport.MAX_RETRY_AFTER_S]


# Several at once


def test_a_few_connections(registry: FaultyRegistry, store: Store) -> None:
    """Blobs come at the same time, over no more connections than there should be."""
    lock, together = threading.Lock(), threading.Condition()
    seen = {"now": 0, "most": 0}

    def hold(_request: Request, reply: Reply) -> Reply:
        with together:
            seen["now"] += 1
            seen["most"] = max(seen["most"], seen["now"])
            together.notify_all()
            together.wait_for(lambda: seen["now"] >= 2, 0.3)
        with lock:
            seen["now"] -= 1
        return reply

    registry.on("GET .*/blobs/", hold)
    do_pull(registry, store)
    assert blob_files(store) == hexes(BIG)
    assert 2 <= seen["most"] <= parallel.MAX_CONNECTIONS


def test_one_failure_ends_all(registry: FaultyRegistry, store: Store) -> None:
    """What another connection is waiting for does not hold up the error."""
    *_, last = sorted(registry.blobs, key=lambda d: len(registry.blobs[d]))
    registry.on(f"GET .*/{last}", lambda _, reply: replace(reply, delay=20.0))
    registry.on("GET .*/blobs/", lambda q, r: r if last in q.path else Reply(403))
    with pytest.raises(RegistryError, match="403"):
        do_pull(registry, store)
    assert_clean(store)


def test_an_interrupt_ends_all(
    registry: FaultyRegistry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.on("GET .*/blobs/", lambda _, reply: replace(reply, drip=0.05))
    main = threading.get_ident()
    work = parallel._Downloads.work

    def interrupted(self: Any, remote: Any) -> None:
        if threading.get_ident() == main:
            raise KeyboardInterrupt
        work(self, remote)

    monkeypatch.setattr(parallel._Downloads, "work", interrupted)
    with pytest.raises(KeyboardInterrupt):
        do_pull(registry, store)
    assert not [t for t in threading.enumerate() if t.name == "ig-download"]
    assert_clean(store)


# Uploads


@pytest.fixture
def reference(registry: FaultyRegistry, store: Store) -> Any:
    registry.blobs.clear()
    registry.manifests.clear()
    found = normalize(f"{registry.host}/new:1")
    store.add(BIG, str(found))
    return found


@pytest.mark.parametrize("limit", [300_000, 100_000, 65_536])
def test_registries_that_take_only_chunks(
    registry: FaultyRegistry, store: Store, reference: Any, limit: int
) -> None:
    registry.max_body = limit
    count = Count()
    push(reference, store, options(registry), count)
    assert hexes(BIG) <= {d.partition(":")[2] for d in registry.blobs} | {
        d.partition(":")[2] for _, d in registry.manifests
    }
    assert count.expected == count.moved


def test_chunks_have_their_least_size(
    registry: FaultyRegistry, store: Store, reference: Any
) -> None:
    registry.max_body = 350_000

    def at_least(_request: Request, reply: Reply) -> Reply:
        reply.headers["OCI-Chunk-Min-Length"] = "320000"
        return reply

    registry.on("^POST", at_least)
    push(reference, store, options(registry))
    sizes = {len(r.body) for r in registry.seen("PATCH")}
    # The last chunk is the rest; larger chunks were refused.
    left = {len(data) % 320_000 for data in registry.blobs.values()}
    assert {size for size in sizes if size <= registry.max_body} <= {320_000} | left
    assert 320_000 in sizes


def test_registries_that_take_nothing(
    registry: FaultyRegistry, store: Store, reference: Any
) -> None:
    registry.max_body = 10
    with pytest.raises(RegistryError, match="refuses chunks"):
        push(reference, store, options(registry))
    assert len(registry.requests) < 60
    assert registry.manifests == {}


def test_chunks_elsewhere(registry: FaultyRegistry, store: Store, reference: Any) -> None:
    """The next chunk goes to no other server without TLS, either."""
    registry.max_body = 300_000
    with serving(FaultyRegistry()) as other:
        registry.on("^PATCH", lambda _, r: replace(
            r, headers={**r.headers, "Location": f"{other.base}/x"}))  # fmt: skip
        with pytest.raises(RegistryError, match="server without HTTPS"):
            push(reference, store, options(registry))
        assert other.requests == []


@pytest.mark.parametrize("status", [429, 502, 503])
def test_uploads_are_tried_again(
    registry: FaultyRegistry, store: Store, reference: Any, status: int
) -> None:
    refused: set[str] = set()

    def once(request: Request, reply: Reply) -> Reply:
        digest = request.query["digest"][0]
        if digest in refused:
            return reply
        refused.add(digest)
        registry.blobs.pop(digest, None)
        return Reply(status)

    registry.on("^PUT .*/blobs/", once)
    count = Count()
    push(reference, store, options(registry), count)
    assert refused <= registry.blobs.keys()
    assert count.expected == count.moved


def test_refused_uploads_are_not(registry: FaultyRegistry, store: Store, reference: Any) -> None:
    registry.on("^PUT .*/blobs/", lambda *_: Reply(403))
    with pytest.raises(RegistryError, match="403"):
        push(reference, store, options(registry))
    assert len(registry.seen("^PUT")) == 1
    assert upload.MIN_CHUNK < upload.FIRST_CHUNK
