"""Push and pull against a registry with injected faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.images import blob_files, hexes, image, reindexed
from support.registry_cases import (
    IMPATIENT,
    QUICK,
    assert_clean,
    auth_file,
    do_pull,
    make_quick,
    options,
)
from support.registry_server import FaultyRegistry, Reply, Request, serving

from ig_py.errors import (
    ImageNotFound,
    IntegrityError,
    LimitError,
    RegistryDenied,
    RegistryError,
    RegistryNotFound,
)
from ig_py.oci import limits, media
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull, push


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyRegistry]:
    make_quick(monkeypatch)
    with serving(FaultyRegistry()) as served:
        served.put("te", "1", image("a"))
        yield served


# Honest registries


def test_pull(registry: FaultyRegistry, store: Store) -> None:
    root = do_pull(registry, store)
    assert root.digest == image("a").index.digest
    assert blob_files(store) == hexes(image("a"))
    (stored,) = store.images()
    assert stored.name == f"{registry.host}/te:1"
    assert stored.descriptor.annotations == {media.REF_NAME: stored.name}


def test_pull_by_digest(registry: FaultyRegistry, store: Store) -> None:
    digest = image("a").index.digest
    assert do_pull(registry, store, f"@{digest}").digest == digest
    assert do_pull(registry, store, f":9@{digest}").digest == digest
    assert [i.name for i in store.images()] == [
        f"{registry.host}/te:9@{digest}", f"{registry.host}/te@{digest}",
    ]  # fmt: skip


def test_a_second_pull_fetches_no_blob_again(registry: FaultyRegistry, store: Store) -> None:
    do_pull(registry, store)
    registry.requests.clear()
    do_pull(registry, store)
    assert registry.seen("blobs") == []


def test_push(registry: FaultyRegistry, store: Store) -> None:
    packed = image("b")
    reference = normalize(f"{registry.host}/deep/er/name:2")
    store.add(packed, str(reference))
    assert push(reference, store, options(registry)).digest == packed.index.digest
    pushed = registry.manifests["deep/er/name", "2"]
    assert pushed == (media.INDEX, packed.blobs[packed.index.digest])
    for digest, data in packed.blobs.items():
        found = registry.blobs.get(digest) or registry.manifests["deep/er/name", digest][1]
        assert found == data
    order = [f"{r.method} {r.path}" for r in registry.requests if r.method == "PUT"]
    assert order[-1].endswith("/manifests/2")
    assert all("/manifests/sha256:" in line for line in order[-3:-1])
    assert all("/blobs/" in line for line in order[:-3])
    registry.requests.clear()
    push(reference, store, options(registry))
    assert [r.method for r in registry.requests] == ["HEAD"]


def test_push_uploads_only_missing_blobs(registry: FaultyRegistry, store: Store) -> None:
    packed = image("a")
    reference = normalize(f"{registry.host}/te:2")
    store.add(packed, str(reference))
    push(reference, store, options(registry))
    assert registry.seen("^POST") == []


def test_pushing_an_absent_image(registry: FaultyRegistry, store: Store) -> None:
    with pytest.raises(ImageNotFound):
        push(normalize(f"{registry.host}/te:2"), store, options(registry))
    assert registry.requests == []


def test_pushing_damage_is_refused(registry: FaultyRegistry, store: Store) -> None:
    reference = normalize(f"{registry.host}/new:2")
    store.add(image("b"), str(reference))
    for path in (store.root / "blobs" / "sha256").iterdir():
        if path.read_bytes().startswith(b"\x7fELF"):
            path.chmod(0o644)
            path.write_bytes(b"?" * path.stat().st_size)
    with pytest.raises(IntegrityError):
        push(reference, store, options(registry))
    assert ("new", "2") not in registry.manifests


def test_progress(registry: FaultyRegistry, store: Store) -> None:
    class Count:
        expected = moved = 0

        def expect(self, size: int) -> None:
            self.expected += size

        def advance(self, size: int) -> None:
            self.moved += size

    packed = image("a", size=500_000)
    registry.put("te", "big", packed)
    reference = normalize(f"{registry.host}/te:big")
    count = Count()
    pull(reference, store, options(registry), count)
    blobs = [b for b in packed.blobs.values() if not b.startswith(b"{")]
    assert count.expected == count.moved >= sum(map(len, blobs))
    registry.blobs.clear()
    registry.manifests.clear()
    count = Count()
    push(reference, store, options(registry), count)
    assert count.expected == count.moved > 0


# Faults. Each leaves the store as it was.


def tampered(_: Request, reply: Reply) -> Reply:
    return replace(reply, body=b"X" + reply.body[1:])


def truncated(_: Request, reply: Reply) -> Reply:
    return replace(reply, body=reply.body[:-1])


def longer(_: Request, reply: Reply) -> Reply:
    return replace(reply, body=reply.body + b"X")


def cut(_: Request, reply: Reply) -> Reply:
    return replace(reply, length=len(reply.body), cut=len(reply.body) // 2)


def empty(_: Request, reply: Reply) -> Reply:
    return replace(reply, body=b"")


@pytest.mark.parametrize("fault", [tampered, truncated, longer, cut, empty])
@pytest.mark.parametrize("where", ["GET /v2/te/blobs/", "GET /v2/te/manifests/sha256"])
def test_wrong_content(registry: FaultyRegistry, store: Store, where: str, fault: Any) -> None:
    registry.on(where, fault)
    with pytest.raises((IntegrityError, RegistryError)) as caught:
        do_pull(registry, store)
    assert "sha256:" in str(caught.value)
    assert_clean(store)


def test_a_wrong_digest_in_the_header(registry: FaultyRegistry, store: Store) -> None:
    fake = "sha256:" + "0" * 64
    registry.on(
        "GET .*/manifests/1$",
        lambda _, r: replace(r, headers={**r.headers, "Docker-Content-Digest": fake}),
    )
    with pytest.raises(IntegrityError, match=fake):
        do_pull(registry, store)
    assert_clean(store)


def test_another_document_for_a_digest(registry: FaultyRegistry, store: Store) -> None:
    other = image("b")
    registry.on(
        "GET .*/manifests/sha256", lambda _, r: replace(r, body=other.blobs[other.index.digest])
    )
    with pytest.raises(IntegrityError):
        do_pull(registry, store, f"@{image('a').index.digest}")
    assert_clean(store)


@pytest.mark.parametrize(
    "kind",
    ["text/html", "", "application/vnd.docker.distribution.manifest.list.v2+json", media.MANIFEST],
)
def test_wrong_content_types(registry: FaultyRegistry, store: Store, kind: str) -> None:
    registry.on(
        "GET .*/manifests/1$", lambda _, r: replace(r, headers={**r.headers, "Content-Type": kind})
    )
    with pytest.raises(IntegrityError):
        do_pull(registry, store)
    assert_clean(store)


def test_a_manifest_sent_as_another_type(registry: FaultyRegistry, store: Store) -> None:
    registry.on(
        "GET .*/manifests/sha256",
        lambda _, r: replace(r, headers={**r.headers, "Content-Type": media.INDEX}),
    )
    with pytest.raises(IntegrityError, match="described as"):
        do_pull(registry, store)
    assert_clean(store)


def change_index(**changes: Any) -> Any:
    def change(doc: Any) -> Any:
        doc["manifests"][0].update(changes)
        return doc

    return change


@pytest.mark.parametrize(
    "change",
    [
        change_index(digest="sha256:../../../../etc/passwd"),
        change_index(digest="sha256:" + "0" * 63),
        change_index(size=1 << 50),
        change_index(size=-1),
        change_index(size=1),
        change_index(annotations={"a": 1}),
        lambda doc: {**doc, "layers": []},
        lambda doc: {**doc, "mediaType": media.MANIFEST},
        lambda doc: {**doc, "schemaVersion": 1},
    ],
)
def test_hostile_indexes(registry: FaultyRegistry, store: Store, change: Any) -> None:
    registry.put("te", "1", reindexed(image("a"), change))
    with pytest.raises((IntegrityError, LimitError)):
        do_pull(registry, store)
    assert_clean(store)


def test_a_huge_manifest(registry: FaultyRegistry, store: Store) -> None:
    huge = b"{" + b" " * limits.MAX_DOCUMENT + b"}"
    registry.on("GET .*/manifests/1$", lambda _, r: replace(r, body=huge))
    with pytest.raises(LimitError, match=r"more than 4\.0 MiB"):
        do_pull(registry, store)
    assert_clean(store)


def test_a_compressed_answer_is_not_unpacked(registry: FaultyRegistry, store: Store) -> None:
    import gzip

    registry.on(
        "GET .*/blobs/",
        lambda _, r: replace(
            r, body=gzip.compress(r.body), headers={**r.headers, "Content-Encoding": "gzip"}
        ),
    )
    with pytest.raises(IntegrityError):
        do_pull(registry, store)
    assert_clean(store)


@pytest.mark.parametrize("status", [500, 502, 503, 429, 400, 418, 204])
@pytest.mark.parametrize("where", ["manifests/1$", "blobs"])
def test_error_statuses(registry: FaultyRegistry, store: Store, where: str, status: int) -> None:
    registry.on(where, lambda *_: Reply(status, b'{"errors":[{"code":"X","message":"why"}]}'))
    with pytest.raises(RegistryError, match=f"status code {status}") as caught:
        do_pull(registry, store)
    if status != 204:
        assert "X: why" in str(caught.value)
    assert_clean(store)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"errors":[]}',
        b'{"errors":[1]}',
        b'{"errors":[{"code":{}}]}',
        b"\xff",
        b"x" * 100_000,
    ],
)
def test_error_bodies_of_any_kind(registry: FaultyRegistry, store: Store, body: bytes) -> None:
    registry.on("manifests/1$", lambda *_: Reply(400, body))
    with pytest.raises(RegistryError, match="status code 400") as caught:
        do_pull(registry, store)
    assert len(str(caught.value)) < 500


def test_passing_trouble_is_waited_out(registry: FaultyRegistry, store: Store) -> None:
    left = {"manifests": 2, "blobs": 1}

    def trouble(request: Request, reply: Reply) -> Reply:
        kind = request.path.split("/")[3]
        left[kind] -= 1
        return Reply(503) if left[kind] >= 0 else reply

    registry.on("GET", trouble)
    do_pull(registry, store)
    assert blob_files(store) == hexes(image("a"))


def test_missing_tags(registry: FaultyRegistry, store: Store) -> None:
    with pytest.raises(RegistryNotFound, match="not found"):
        do_pull(registry, store, ":nope")
    assert_clean(store)


def test_missing_blobs(registry: FaultyRegistry, store: Store) -> None:
    registry.blobs.clear()
    with pytest.raises(RegistryNotFound):
        do_pull(registry, store)
    assert_clean(store)


# Time


@pytest.mark.parametrize("where", ["manifests/1$", "manifests/sha256", "blobs"])
@pytest.mark.parametrize(
    "slow",
    [
        {"delay": 20.0},
        {"drip": 0.05},
        {"drip_headers": 0.05},
    ],
)
def test_slow_registries(registry: FaultyRegistry, store: Store, where: str, slow: Any) -> None:
    registry.on(where, lambda _, r: replace(r, **slow))
    impatient = replace(options(registry), timeouts=IMPATIENT)
    started = time.monotonic()
    with pytest.raises(RegistryError, match=r"too slow|sent nothing"):
        pull(normalize(f"{registry.host}/te:1"), store, impatient)
    assert time.monotonic() - started < 8
    assert_clean(store)


def test_a_registry_that_does_not_listen(store: Store) -> None:
    with serving(FaultyRegistry()) as gone:
        pass
    started = time.monotonic()
    with pytest.raises(RegistryError, match="connection refused"):
        do_pull(gone, store)
    assert time.monotonic() - started < 2
    assert_clean(store)


def test_hosts_without_address(store: Store) -> None:
    with pytest.raises(RegistryError, match=r"nosuch\.invalid"):
        pull(normalize("nosuch.invalid/x:1"), store, RegistryOptions(timeouts=QUICK))


# Plain HTTP


def test_plain_http_must_be_allowed(registry: FaultyRegistry, store: Store) -> None:
    with pytest.raises(RegistryError) as caught:
        pull(normalize(f"{registry.host}/te:1"), store, RegistryOptions(timeouts=QUICK))
    assert f"--insecure-registries {registry.host}" in str(caught.value)
    assert registry.requests == []


def test_the_list_of_insecure_registries_is_exact(registry: FaultyRegistry, store: Store) -> None:
    host, _, port = registry.host.partition(":")
    for listed in (host, f"http://{registry.host}", f":{port}", f"localhost:{port}", "*"):
        with pytest.raises(RegistryError):
            pull(normalize(f"{registry.host}/te:1"), store,
                 RegistryOptions(insecure_registries=(listed,), timeouts=QUICK))  # fmt: skip
    assert registry.requests == []


def test_plain_http_never_sees_credentials(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(FaultyRegistry(login=("u", "p"))) as registry:
        authfile = auth_file(tmp_path, registry.host)
        for scheme in ("basic", "bearer"):
            registry.scheme = scheme
            with pytest.raises(RegistryDenied):
                pull(normalize(f"{registry.host}/te:1"), store,
                     replace(options(registry), authfile=authfile))  # fmt: skip
        assert {r.authorization for r in registry.requests} == {""}
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login u password p\n")
        monkeypatch.setenv("NETRC", str(netrc))
        with pytest.raises(RegistryDenied):
            do_pull(registry, store)
        assert {r.authorization for r in registry.requests} == {""}


def test_redirects_of_plain_http_stay_at_home(registry: FaultyRegistry, store: Store) -> None:
    with serving(FaultyRegistry()) as other:
        other.put("te", "1", image("a"))
        registry.on("blobs", lambda q, _: Reply(307, headers={"Location": other.base + q.path}))
        with pytest.raises(RegistryError, match="server without HTTPS"):
            do_pull(registry, store)
        assert other.requests == []
    assert_clean(store)


def test_redirects_within_the_registry(registry: FaultyRegistry, store: Store) -> None:
    def once(request: Request, reply: Reply) -> Reply:
        if "again" in request.query:
            return reply
        return Reply(302, headers={"Location": f"{request.path}?again=1"})

    registry.on("GET", once)
    do_pull(registry, store)
    assert blob_files(store) == hexes(image("a"))


def test_endless_redirects(registry: FaultyRegistry, store: Store) -> None:
    registry.on("GET", lambda q, _: Reply(302, headers={"Location": q.path}))
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        do_pull(registry, store)
    assert len(registry.requests) == 6


@pytest.mark.parametrize(
    "target", ["ftp://x/y", "file:///etc/passwd", "//", "http://[", "https://u:p@x/y", "http://a:b"]
)
def test_redirects_to_nonsense(registry: FaultyRegistry, store: Store, target: str) -> None:
    registry.on("blobs", lambda *_: Reply(302, headers={"Location": target}))
    with pytest.raises(RegistryError):
        do_pull(registry, store)
    assert_clean(store)


def test_redirected_uploads_are_refused(registry: FaultyRegistry, store: Store) -> None:
    reference = normalize(f"{registry.host}/new:1")
    store.add(image("b"), str(reference))
    registry.on("^(PUT|POST)", lambda q, _: Reply(307, headers={"Location": q.path}))
    with pytest.raises(RegistryError, match="redirected"):
        push(reference, store, options(registry))


@pytest.mark.parametrize("location", ["", "ftp://x/", "http://elsewhere.invalid/x"])
def test_uploads_to_nowhere(registry: FaultyRegistry, store: Store, location: str) -> None:
    reference = normalize(f"{registry.host}/new:1")
    store.add(image("b"), str(reference))
    registry.on("^POST", lambda *_: Reply(202, headers={"Location": location}))
    with pytest.raises(RegistryError):
        push(reference, store, options(registry))
    assert registry.seen("^PUT") == []


def test_a_registry_that_stores_something_else(registry: FaultyRegistry, store: Store) -> None:
    reference = normalize(f"{registry.host}/new:1")
    store.add(image("b"), str(reference))
    fake = "sha256:" + "0" * 64
    registry.on("PUT .*/manifests/", lambda _, r: replace(
        r, headers={"Docker-Content-Digest": fake}))  # fmt: skip
    with pytest.raises(IntegrityError, match=fake):
        push(reference, store, options(registry))
