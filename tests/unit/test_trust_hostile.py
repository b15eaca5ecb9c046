"""What a hostile registry can do: one test a row of the catalogue of attacks.

Each shows that no credential leaves its origin, that nothing unverified is stored, that a
limit holds, and that the error says what happened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import image
from support.registry_cases import (
    IMPATIENT,
    assert_clean,
    auth_file,
    do_pull,
    make_quick,
    options,
    with_login,
)
from support.registry_server import Fault, FaultyRegistry, Reply, make_certificate, serving

from ig_py.errors import (
    IgPyError,
    IntegrityError,
    LimitError,
    RegistryDenied,
    RegistryError,
    VerificationError,
)
from ig_py.oci import limits
from ig_py.oci.artifact import Descriptor
from ig_py.oci.options import ResolveOptions
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions, Repository
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull, push
from ig_py.oci.trust.bundle import collect
from ig_py.oci.trust.transfer import RemoteSignatures
from ig_py.resolver import resolve
from ig_py.testing import faults

ROOT = image("a").index
SECRET = "c2VjcmV0"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def thief() -> Iterator[FaultyRegistry]:
    """Another server; it must see no credential."""
    with serving(FaultyRegistry()) as server:
        yield server
        shown = [r.authorization for r in server.requests if r.authorization]
        assert shown == []


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    make_quick(monkeypatch)
    return Store.open(tmp_path / "store")


@pytest.fixture
def evil(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyRegistry]:
    """An HTTPS registry with login, into which faults are injected."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    registry = FaultyRegistry(login=("u", "p"))
    with serving(registry, tls=certificate, host="localhost") as server:
        server.put("te", "1", image("a"))
        yield server


def test_uploads_elsewhere(
    store: Store, evil: FaultyRegistry, thief: FaultyRegistry, tmp_path: Path
) -> None:
    reference = normalize(f"{evil.host}/new:1")
    store.add(image("b"), str(reference))
    evil.on("POST /v2/new/blobs/uploads/", faults.upload_elsewhere(f"{thief.base}/v2/new/blobs/x"))
    with pytest.raises(RegistryError, match="server without HTTPS"):
        push(reference, store, with_login(evil, tmp_path))
    assert thief.requests == []


@pytest.mark.parametrize("path", ["manifests/1", "blobs/"])
def test_redirects(
    store: Store, evil: FaultyRegistry, thief: FaultyRegistry, tmp_path: Path, path: str
) -> None:
    evil.on(f"GET /v2/te/{path}", faults.redirect(f"{thief.base}/steal"))
    with pytest.raises(RegistryError, match=r"another server|server without HTTPS"):
        pull(normalize(f"{evil.host}/te:1"), store, with_login(evil, tmp_path))
    assert thief.requests == []
    assert_clean(store)


def test_redirect_loops(store: Store, evil: FaultyRegistry, tmp_path: Path) -> None:
    evil.on("GET /v2/te/manifests/1", faults.redirect("/v2/te/manifests/1"))
    with pytest.raises(RegistryError, match="redirects"):
        pull(normalize(f"{evil.host}/te:1"), store, with_login(evil, tmp_path))
    assert len(evil.requests) < 20


def test_realms(store: Store, evil: FaultyRegistry, thief: FaultyRegistry, tmp_path: Path) -> None:
    evil.on("GET /v2/te", faults.demand_token(f"{thief.base}/token"))
    with pytest.raises(RegistryDenied, match="no credentials were sent"):
        pull(normalize(f"{evil.host}/te:1"), store, with_login(evil, tmp_path))
    assert thief.requests == []


def test_plain_http_registries_see_no_credentials(store: Store, tmp_path: Path) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        given = options(registry)
        known = auth_file(tmp_path, registry.host)
        pull(normalize(f"{registry.host}/te:1"), store, type(given)(known, (registry.host,)))
        assert [r.authorization for r in registry.requests if r.authorization] == []


def referrers(registry: FaultyRegistry) -> list[Descriptor] | None:
    with Repository(normalize(f"{registry.host}/te:1"), options(registry)) as remote:
        return remote.referrers(ROOT.digest)


def test_next_pages_elsewhere(thief: FaultyRegistry, store: Store) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.on("GET /v2/te/referrers", faults.next_page(f"{thief.base}/v2/te/referrers/x"))
        with pytest.raises(RegistryError, match="another server"):
            referrers(registry)
    assert thief.requests == []


def test_endless_pages(store: Store) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.on("GET /v2/te/referrers", faults.endless_pages(registry))
        with pytest.raises(LimitError, match="more than 20 pages"):
            referrers(registry)
        assert len(registry.requests) == 20


def test_endless_signatures(store: Store) -> None:
    """The image is pulled, unsigned: it does not run."""
    said: list[str] = []
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.on("GET /v2/te/referrers", faults.many_referrers(200))
        pull(normalize(f"{registry.host}/te:1"), store, options(registry), on_message=said.append)
        assert "more than 50 signatures" in said[0]
        assert len(registry.requests) < 20
    with pytest.raises(VerificationError, match="signature not found"):
        resolve(f"{registry.host}/te:1", ResolveOptions(arch="amd64", pull="never", store=store))


def test_huge_signatures(store: Store) -> None:
    """What a signature's manifest announces is not fetched."""
    digest = f"sha256:{'1' * 64}"
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "x/y", "digest": digest, "size": 2},
        "layers": [{"mediaType": "x/y", "digest": digest, "size": limits.GIB}],
    }
    with serving(FaultyRegistry()) as registry:
        tag = ROOT.digest.replace(":", "-") + ".sig"
        raw = json.dumps(manifest).encode()
        registry.manifests["te", tag] = ("application/vnd.oci.image.manifest.v1+json", raw)
        with Repository(normalize(f"{registry.host}/te:1"), options(registry)) as remote:
            assert collect(RemoteSignatures(remote), ROOT).signatures == []
        assert registry.seen("GET .*/blobs/") == []


def test_big_documents(store: Store) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.on("GET .*/manifests/1", faults.oversized(limits.MAX_DOCUMENT + 1))
        with pytest.raises(LimitError, match=r"4\.0 MiB"):
            do_pull(registry, store)
    assert_clean(store)


@pytest.mark.parametrize("path", ["manifests/sha256", "blobs/"])
def test_changed_content(store: Store, path: str) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.on(f"GET .*/{path}", faults.changed)
        with pytest.raises(IntegrityError, match="digest"):
            do_pull(registry, store)
    assert_clean(store)


def test_truncated_content(store: Store) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.on("GET .*/blobs/", faults.truncated)
        with pytest.raises(RegistryError, match="closed the connection early"):
            do_pull(registry, store)
    assert_clean(store)


def test_slow_content(store: Store) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.on("GET .*/manifests/1", faults.slow(0.05))
        impatient = RegistryOptions(None, (registry.host,), IMPATIENT)
        with pytest.raises(RegistryError, match="too slow"):
            pull(normalize(f"{registry.host}/te:1"), store, impatient)
    assert_clean(store)


def test_ambiguous_documents(store: Store) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.on("GET .*/manifests/1", faults.ambiguous)
        with pytest.raises(IntegrityError, match="both an index and a manifest"):
            do_pull(registry, store)
    assert_clean(store)


@pytest.mark.parametrize(
    "digest", ["sha256:../../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, "x"]
)
def test_digests_as_paths(store: Store, digest: str) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.on("GET .*/manifests/1", faults.named_digest(digest))
        with pytest.raises(IntegrityError, match="invalid digest"):
            do_pull(registry, store)
    assert_clean(store)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faults.nested(100_000), "nested"),
        (faults.nested(40), "nested"),
        (faults.key_twice, "duplicate key"),
        (faults.wrong_type("text/html"), "not an OCI image"),
        (faults.wrong_type("application/vnd.oci.image.manifest.v1+json"), "not an image index"),
    ],
)
def test_odd_documents(store: Store, fault: Fault, reason: str) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.on("GET .*/manifests/1", fault)
        with pytest.raises((IntegrityError, LimitError), match=reason):
            do_pull(registry, store)
    assert_clean(store)


def test_compressed_content(store: Store) -> None:
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.on("GET .*/blobs/", faults.compressed())
        with pytest.raises(IntegrityError, match="longer than its declared"):
            do_pull(registry, store)
    assert_clean(store)


def test_errors_that_try_to_draw(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A registry's own words reach the terminal with nothing that moves the cursor."""
    from ig_py.cli import main

    body = json.dumps({"errors": [{"code": "X", "message": "\x1b[2Jgone\u202e"}]}).encode()
    with serving(FaultyRegistry()) as registry:
        registry.on("GET .*/manifests/1", lambda _q, _r: Reply(403, body))
        argv = ["image", "pull", f"{registry.host}/te:1", "--insecure-registries", registry.host,
                "--oci-store", str(store.root)]  # fmt: skip
        assert main(argv) == 1
    said = capsys.readouterr().err
    assert "\x1b" not in said and "\u202e" not in said and "gone" in said


def test_the_test_double_is_honest(store: Store) -> None:
    """Pull, push, chunks, ranges, mounting and pages of tags, as the specification has them."""
    import urllib.error
    import urllib.request

    def ask(
        method: str, path: str, data: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(
            f"{registry.base}{path}", data, {k.replace("_", "-"): v for k, v in headers.items()},
            method=method,
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as err:
            return err.code, dict(err.headers), err.read()

    with serving(FaultyRegistry(page=2)) as registry:
        status, headers, _ = ask("POST", "/v2/a/blobs/uploads/", b"")
        place = headers["Location"]
        assert status == 202
        assert ask("PATCH", place, b"hello ", Content_Range="0-5")[0] == 202
        assert ask("PATCH", place, b"again", Content_Range="0-4")[0] == 416
        assert ask("PATCH", place, b"world", Content_Range="6-10")[1]["Range"] == "0-10"
        digest = "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
        assert ask("PUT", f"{place}&digest={digest}", b"")[0] == 201
        assert ask("GET", f"/v2/a/blobs/{digest}", Range="bytes=6-")[::2] == (206, b"world")
        assert ask("POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a", b"")[0] == 201
        for tag in ("3", "1", "2"):
            registry.put("t", tag, image(tag))
        status, headers, body = ask("GET", "/v2/t/tags/list")
        assert json.loads(body)["tags"] == ["1", "2"]
        rest = headers["Link"].partition(">")[0].removeprefix("<")
        assert json.loads(ask("GET", rest)[2])["tags"] == ["3"]
        assert ask("DELETE", f"/v2/a/blobs/{digest}")[0] == 202
        assert ask("GET", f"/v2/a/blobs/{digest}")[0] == 404
        assert ask("GET", "/v2/none/tags/list")[0] == 404
        with pytest.raises(IgPyError, match="not found"):
            do_pull(registry, store, ":none")
