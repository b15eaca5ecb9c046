"""Push and pull against a registry that may lie."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.images import blob_files, hexes, image, reindexed
from support.registry_server import LyingRegistry, Reply, Request, make_certificate, serving

from ig_py.errors import (
    IgPyError,
    ImageNotFound,
    IntegrityError,
    LimitError,
    RegistryDenied,
    RegistryError,
    RegistryNotFound,
)
from ig_py.oci import limits, media, transport
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull, push
from ig_py.oci.transport import Timeouts

QUICK = Timeouts(connect=2, read=0.7, request=1.5, rate=1 << 20)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "RETRY_DELAYS_S", (0.01, 0.01))
    for variable in ("REGISTRY_AUTH_FILE", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def registry() -> Iterator[LyingRegistry]:
    with serving(LyingRegistry()) as served:
        served.put("te", "1", image("a"))
        yield served


def options(registry: LyingRegistry) -> RegistryOptions:
    return RegistryOptions(insecure_registries=(registry.host,), timeouts=QUICK)


def do_pull(registry: LyingRegistry, store: Store, tag: str = ":1") -> Any:
    return pull(normalize(f"{registry.host}/te{tag}"), store, options(registry))


def assert_clean(store: Store) -> None:
    """A failed pull leaves nothing."""
    assert store.images() == []
    if store.root.exists():
        assert blob_files(store) == set()
        assert list((store.root / "ingest").iterdir()) == []


# Honest registries

def test_pull(registry: LyingRegistry, store: Store) -> None:
    root = do_pull(registry, store)
    assert root.digest == image("a").index.digest
    assert blob_files(store) == hexes(image("a"))
    (stored,) = store.images()
    assert stored.name == f"{registry.host}/te:1"
    assert stored.descriptor.annotations == {media.REF_NAME: stored.name}


def test_pull_by_digest(registry: LyingRegistry, store: Store) -> None:
    digest = image("a").index.digest
    assert do_pull(registry, store, f"@{digest}").digest == digest
    assert do_pull(registry, store, f":9@{digest}").digest == digest
    assert [i.name for i in store.images()] == [
        f"{registry.host}/te:9@{digest}", f"{registry.host}/te@{digest}",
    ]  # fmt: skip


def test_a_second_pull_fetches_no_blob_again(registry: LyingRegistry, store: Store) -> None:
    do_pull(registry, store)
    registry.requests.clear()
    do_pull(registry, store)
    assert registry.seen("blobs") == []


def test_push(registry: LyingRegistry, store: Store) -> None:
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


def test_push_uploads_only_what_is_missing(registry: LyingRegistry, store: Store) -> None:
    packed = image("a")
    reference = normalize(f"{registry.host}/te:2")
    store.add(packed, str(reference))
    push(reference, store, options(registry))
    assert registry.seen("^POST") == []


def test_pushing_what_is_not_there(registry: LyingRegistry, store: Store) -> None:
    with pytest.raises(ImageNotFound):
        push(normalize(f"{registry.host}/te:2"), store, options(registry))
    assert registry.requests == []


def test_pushing_damage_is_refused(registry: LyingRegistry, store: Store) -> None:
    reference = normalize(f"{registry.host}/new:2")
    store.add(image("b"), str(reference))
    for path in (store.root / "blobs" / "sha256").iterdir():
        if path.read_bytes().startswith(b"\x7fELF"):
            path.chmod(0o644)
            path.write_bytes(b"?" * path.stat().st_size)
    with pytest.raises(IntegrityError):
        push(reference, store, options(registry))
    assert ("new", "2") not in registry.manifests


def test_progress(registry: LyingRegistry, store: Store) -> None:
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


# Lies. Each leaves the store as it was.

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


@pytest.mark.parametrize("lie", [tampered, truncated, longer, cut, empty])
@pytest.mark.parametrize("where", ["GET /v2/te/blobs/", "GET /v2/te/manifests/sha256"])
def test_wrong_content(registry: LyingRegistry, store: Store, where: str, lie: Any) -> None:
    registry.on(where, lie)
    with pytest.raises((IntegrityError, RegistryError)) as caught:
        do_pull(registry, store)
    assert "sha256:" in str(caught.value)
    assert_clean(store)


def test_a_wrong_digest_in_the_header(registry: LyingRegistry, store: Store) -> None:
    fake = "sha256:" + "0" * 64
    registry.on("GET .*/manifests/1$",
                lambda _, r: replace(r, headers={**r.headers, "Docker-Content-Digest": fake}))
    with pytest.raises(IntegrityError, match=fake):
        do_pull(registry, store)
    assert_clean(store)


def test_another_document_for_a_digest(registry: LyingRegistry, store: Store) -> None:
    other = image("b")
    registry.on("GET .*/manifests/sha256",
                lambda _, r: replace(r, body=other.blobs[other.index.digest]))
    with pytest.raises(IntegrityError):
        do_pull(registry, store, f"@{image('a').index.digest}")
    assert_clean(store)


@pytest.mark.parametrize(
    "kind",
    ["text/html", "", "application/vnd.docker.distribution.manifest.list.v2+json", media.MANIFEST],
)
def test_wrong_content_types(registry: LyingRegistry, store: Store, kind: str) -> None:
    registry.on("GET .*/manifests/1$",
                lambda _, r: replace(r, headers={**r.headers, "Content-Type": kind}))
    with pytest.raises(IntegrityError):
        do_pull(registry, store)
    assert_clean(store)


def test_a_manifest_sent_as_another_type(registry: LyingRegistry, store: Store) -> None:
    registry.on("GET .*/manifests/sha256",
                lambda _, r: replace(r, headers={**r.headers, "Content-Type": media.INDEX}))
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
def test_hostile_indexes(registry: LyingRegistry, store: Store, change: Any) -> None:
    registry.put("te", "1", reindexed(image("a"), change))
    with pytest.raises((IntegrityError, LimitError)):
        do_pull(registry, store)
    assert_clean(store)


def test_a_huge_manifest(registry: LyingRegistry, store: Store) -> None:
    huge = b"{" + b" " * limits.MAX_DOCUMENT + b"}"
    registry.on("GET .*/manifests/1$", lambda _, r: replace(r, body=huge))
    with pytest.raises(LimitError, match=r"more than 4\.0 MiB"):
        do_pull(registry, store)
    assert_clean(store)


def test_a_compressed_answer_is_not_unpacked(registry: LyingRegistry, store: Store) -> None:
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
def test_error_statuses(registry: LyingRegistry, store: Store, where: str, status: int) -> None:
    registry.on(where, lambda *_: Reply(status, b'{"errors":[{"code":"X","message":"why"}]}'))
    with pytest.raises(RegistryError, match=f"status code {status}") as caught:
        do_pull(registry, store)
    if status != 204:
        assert "X: why" in str(caught.value)
    assert_clean(store)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors":[]}', b'{"errors":[1]}',
                                  b'{"errors":[{"code":{}}]}', b"\xff", b"x" * 100_000])
def test_error_bodies_of_any_kind(registry: LyingRegistry, store: Store, body: bytes) -> None:
    registry.on("manifests/1$", lambda *_: Reply(400, body))
    with pytest.raises(RegistryError, match="status code 400") as caught:
        do_pull(registry, store)
    assert len(str(caught.value)) < 500


def test_passing_trouble_is_waited_out(registry: LyingRegistry, store: Store) -> None:
    left = {"manifests": 2, "blobs": 1}

    def trouble(request: Request, reply: Reply) -> Reply:
        kind = request.path.split("/")[3]
        left[kind] -= 1
        return Reply(503) if left[kind] >= 0 else reply

    registry.on("GET", trouble)
    do_pull(registry, store)
    assert blob_files(store) == hexes(image("a"))


def test_missing_tags(registry: LyingRegistry, store: Store) -> None:
    with pytest.raises(RegistryNotFound, match="not found"):
        do_pull(registry, store, ":nope")
    assert_clean(store)


def test_missing_blobs(registry: LyingRegistry, store: Store) -> None:
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
        {"drip": 0.2},
        {"drip_headers": 0.2},
    ],
)
def test_slow_registries(registry: LyingRegistry, store: Store, where: str, slow: Any) -> None:
    registry.on(where, lambda _, r: replace(r, **slow))
    started = time.monotonic()
    with pytest.raises(RegistryError, match=r"too slow|silent"):
        do_pull(registry, store)
    assert time.monotonic() - started < 8
    assert_clean(store)


def test_nobody_listens(store: Store) -> None:
    with serving(LyingRegistry()) as gone:
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

def test_plain_http_must_be_allowed(registry: LyingRegistry, store: Store) -> None:
    with pytest.raises(RegistryError) as caught:
        pull(normalize(f"{registry.host}/te:1"), store, RegistryOptions(timeouts=QUICK))
    assert f"--insecure-registries {registry.host}" in str(caught.value)
    assert registry.requests == []


def test_the_list_of_insecure_registries_is_exact(registry: LyingRegistry, store: Store) -> None:
    host, _, port = registry.host.partition(":")
    for listed in (host, f"http://{registry.host}", f":{port}", f"localhost:{port}", "*"):
        with pytest.raises(RegistryError):
            pull(normalize(f"{registry.host}/te:1"), store,
                 RegistryOptions(insecure_registries=(listed,), timeouts=QUICK))  # fmt: skip
    assert registry.requests == []


def test_plain_http_never_sees_credentials(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(LyingRegistry(login=("u", "p"))) as registry:
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


def test_redirects_of_plain_http_stay_at_home(registry: LyingRegistry, store: Store) -> None:
    with serving(LyingRegistry()) as other:
        other.put("te", "1", image("a"))
        registry.on("blobs", lambda q, _: Reply(307, headers={"Location": other.base + q.path}))
        with pytest.raises(RegistryError, match="unprotected"):
            do_pull(registry, store)
        assert other.requests == []
    assert_clean(store)


def test_redirects_within_the_registry(registry: LyingRegistry, store: Store) -> None:
    def once(request: Request, reply: Reply) -> Reply:
        if "again" in request.query:
            return reply
        return Reply(302, headers={"Location": f"{request.path}?again=1"})

    registry.on("GET", once)
    do_pull(registry, store)
    assert blob_files(store) == hexes(image("a"))


def test_endless_redirects(registry: LyingRegistry, store: Store) -> None:
    registry.on("GET", lambda q, _: Reply(302, headers={"Location": q.path}))
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        do_pull(registry, store)
    assert len(registry.requests) == 6


@pytest.mark.parametrize(
    "target", ["ftp://x/y", "file:///etc/passwd", "//", "http://[", "https://u:p@x/y", "http://a:b"]
)
def test_redirects_to_nonsense(registry: LyingRegistry, store: Store, target: str) -> None:
    registry.on("blobs", lambda *_: Reply(302, headers={"Location": target}))
    with pytest.raises(RegistryError):
        do_pull(registry, store)
    assert_clean(store)


def test_redirected_uploads_are_refused(registry: LyingRegistry, store: Store) -> None:
    reference = normalize(f"{registry.host}/new:1")
    store.add(image("b"), str(reference))
    registry.on("^(PUT|POST)", lambda q, _: Reply(307, headers={"Location": q.path}))
    with pytest.raises(RegistryError, match="redirected"):
        push(reference, store, options(registry))


@pytest.mark.parametrize("location", ["", "ftp://x/", "http://elsewhere.invalid/x"])
def test_uploads_to_nowhere(registry: LyingRegistry, store: Store, location: str) -> None:
    reference = normalize(f"{registry.host}/new:1")
    store.add(image("b"), str(reference))
    registry.on("^POST", lambda *_: Reply(202, headers={"Location": location}))
    with pytest.raises(RegistryError):
        push(reference, store, options(registry))
    assert registry.seen("^PUT") == []


def test_a_registry_that_stores_something_else(registry: LyingRegistry, store: Store) -> None:
    reference = normalize(f"{registry.host}/new:1")
    store.add(image("b"), str(reference))
    fake = "sha256:" + "0" * 64
    registry.on("PUT .*/manifests/", lambda _, r: replace(
        r, headers={"Docker-Content-Digest": fake}))  # fmt: skip
    with pytest.raises(IntegrityError, match=fake):
        push(reference, store, options(registry))


# Credentials, over TLS

@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    return certificate


def auth_file(folder: Path, host: str, user: str = "u", password: str = "p") -> str:
    import base64

    path = folder / "auth.json"
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return str(path)


def with_login(registry: LyingRegistry, folder: Path, **kwargs: Any) -> RegistryOptions:
    return RegistryOptions(auth_file(folder, registry.host, **kwargs), timeouts=QUICK)


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_login(trusted: tuple[Path, Path], store: Store, tmp_path: Path, scheme: str) -> None:
    with serving(LyingRegistry(login=("u", "p"), scheme=scheme), tls=trusted) as registry:
        registry.put("te", "1", image("a"))
        reference = normalize(f"{registry.host}/te:1")
        pull(reference, store, with_login(registry, tmp_path))
        tokens = registry.seen("/token")
        if scheme == "bearer":
            assert [t.query["scope"] for t in tokens] == [["repository:te:pull"]]
        other = normalize(f"{registry.host}/te:2")
        store.tag(str(reference), str(other))
        push(other, store, with_login(registry, tmp_path))
        assert registry.manifests["te", "2"][1] == registry.manifests["te", "1"][1]
        if scheme == "bearer":
            assert registry.seen("/token")[-1].query["scope"] == ["repository:te:pull,push"]


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_wrong_and_missing_credentials(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path, scheme: str
) -> None:
    with serving(LyingRegistry(login=("u", "p"), scheme=scheme), tls=trusted) as registry:
        reference = normalize(f"{registry.host}/te:1")
        with pytest.raises(RegistryDenied):
            pull(reference, store, with_login(registry, tmp_path, password="wrong"))
        with pytest.raises(RegistryDenied):
            pull(reference, store, with_login(registry, tmp_path, user="other"))
        elsewhere = RegistryOptions(auth_file(tmp_path, "other.example"), timeouts=QUICK)
        with pytest.raises(RegistryDenied):
            pull(reference, store, elsewhere)


def test_untrusted_certificates(
    certificate: tuple[Path, Path], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with serving(LyingRegistry(login=("u", "p")), tls=certificate) as registry:
        with pytest.raises(RegistryError, match="SSL_CERT_FILE"):
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert registry.requests == []


def test_a_registry_listed_as_insecure_that_speaks_tls(
    trusted: tuple[Path, Path], store: Store
) -> None:
    with serving(LyingRegistry(), tls=trusted) as registry, pytest.raises(RegistryError):
        do_pull(registry, store)


@pytest.mark.parametrize("kind", ["blob", "manifest"])
def test_redirects_to_another_host_carry_no_credentials(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path, kind: str
) -> None:
    """Blobs may be elsewhere, as content networks have them; documents may not."""
    with (
        serving(LyingRegistry(login=("u", "p")), tls=trusted) as registry,
        serving(LyingRegistry(), tls=trusted, host="localhost") as other,
    ):
        registry.put("te", "1", image("a"))
        other.put("te", "1", image("a"))

        def away(request: Request, reply: Reply) -> Reply:
            if reply.status != 200:
                return reply
            return Reply(307, headers={"Location": f"{other.base}{request.path}?signature=secret"})

        registry.on("/blobs/" if kind == "blob" else "/manifests/", away)
        reference = normalize(f"{registry.host}/te:1")
        if kind == "manifest":
            with pytest.raises(RegistryError, match="another server") as caught:
                pull(reference, store, with_login(registry, tmp_path))
            assert "secret" not in str(caught.value)
            assert other.requests == []
            return
        pull(reference, store, with_login(registry, tmp_path))
        assert {r.authorization for r in other.seen("GET")} == {""}
        fetched = {r.path.rpartition("/")[2] for r in other.requests}
        # The empty config travels inside its descriptor.
        assert fetched == {d for d, data in registry.blobs.items() if data != b"{}"}


def test_another_port_is_another_origin(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with (
        serving(LyingRegistry(login=("u", "p"), scheme="basic"), tls=trusted) as registry,
        serving(LyingRegistry(login=("u", "p"), scheme="basic"), tls=trusted) as other,
    ):
        registry.put("te", "1", image("a"))
        registry.on("/blobs/", lambda q, r: r if r.status != 200 else Reply(
            307, headers={"Location": other.base + q.path}))  # fmt: skip
        with pytest.raises(RegistryDenied):
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert {r.authorization for r in other.requests} == {""}


def test_from_tls_to_plain_http(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with (
        serving(LyingRegistry(), tls=trusted) as registry,
        serving(LyingRegistry()) as plain,
    ):
        registry.put("te", "1", image("a"))
        plain.put("te", "1", image("a"))
        registry.on("/blobs/", lambda q, _: Reply(302, headers={"Location": plain.base + q.path}))
        with pytest.raises(RegistryError, match="unprotected"):
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert plain.requests == []


def test_uploads_elsewhere_carry_no_credentials(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with (
        serving(LyingRegistry(login=("u", "p")), tls=trusted) as registry,
        serving(LyingRegistry(), tls=trusted, host="localhost") as other,
    ):
        reference = normalize(f"{registry.host}/te:1")
        store.add(image("a"), str(reference))
        registry.on("^POST", lambda q, r: r if r.status != 202 else Reply(
            202, headers={"Location": f"{other.base}/v2/te/blobs/uploads/1?sig=secret"}))
        push(reference, store, with_login(registry, tmp_path))
        uploads = other.seen("^PUT")
        assert len(uploads) == 4
        assert {r.authorization for r in other.requests} == {""}
        assert all(r.query["sig"] == ["secret"] and r.query["digest"] for r in uploads)


@pytest.mark.parametrize(
    "realm",
    [
        "https://localhost:{port}/token",
        "http://127.0.0.1:{plain}/token",
        "https://127.0.0.1.evil.example/token",
        "https://evil.example/token",
        "https://127.0.0.1@evil.example/token",
        "https://auth.docker.io/token",
        "ftp://127.0.0.1/token",
        "/token",
        "",
    ],
)
def test_a_hijacked_realm_sees_nothing(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path, realm: str
) -> None:
    with (
        serving(LyingRegistry(login=("u", "p")), tls=trusted) as registry,
        serving(LyingRegistry(), tls=trusted, host="localhost") as thief,
        serving(LyingRegistry()) as plain,
    ):
        port = thief.host.partition(":")[2]
        wanted = realm.format(port=port, plain=plain.host.partition(":")[2])
        registry.realm = wanted or "?"
        with pytest.raises(RegistryDenied, match="no credentials were sent"):
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert thief.requests == plain.requests == []
        assert {r.authorization for r in registry.requests} == {""}


def test_a_token_service_on_another_port_of_the_same_host(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with (
        serving(LyingRegistry(login=("u", "p")), tls=trusted) as registry,
        serving(LyingRegistry(login=("u", "p")), tls=trusted) as tokens,
    ):
        registry.put("te", "1", image("a"))
        registry.tokens = tokens.tokens
        registry.realm = f"{tokens.base}/token"
        pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert blob_files(store) == hexes(image("a"))


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"{}"),
        Reply(200, b"not json"),
        Reply(200, b'{"token": 5}'),
        Reply(200, b'{"token": "a\\r\\nX-Evil: 1"}'),
        Reply(200, b'{"token": ""}'),
        Reply(200, b'{"token": "' + b"a" * limits.MAX_TOKEN + b'"}'),
        Reply(500),
        Reply(302, headers={"Location": "https://evil.example/token"}),
    ],
)
def test_token_services_that_misbehave(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path, reply: Reply
) -> None:
    with serving(LyingRegistry(login=("u", "p")), tls=trusted) as registry:
        registry.on("/token", lambda *_: reply)
        with pytest.raises(IgPyError) as caught:
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert isinstance(caught.value, RegistryError | LimitError | IntegrityError)


@pytest.mark.parametrize(
    "challenge",
    ["", "Negotiate", "Bearer", 'Bearer realm="', "Bearer realm=,,,", "Basic" + " x" * 50_000],
)
def test_challenges_that_are_not_understood(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path, challenge: str
) -> None:
    with serving(LyingRegistry(), tls=trusted) as registry:
        registry.on("GET", lambda *_: Reply(401, headers={"WWW-Authenticate": challenge}))
        with pytest.raises(RegistryError):
            pull(normalize(f"{registry.host}/te:1"), store, RegistryOptions(timeouts=QUICK))


def test_passwords_are_in_no_message(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with serving(LyingRegistry(login=("u", "p")), tls=trusted) as registry:
        with pytest.raises(IgPyError) as caught:
            pull(normalize(f"{registry.host}/te:1"), store,
                 with_login(registry, tmp_path, password="hunter2"))  # fmt: skip
        assert "hunter2" not in f"{caught.value} {caught.value.detail} {caught.value!r}"
