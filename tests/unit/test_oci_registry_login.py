"""Credentials go to their own origin, over TLS, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import features
from support.images import blob_files, hexes, image
from support.registry_cases import QUICK, auth_file, do_pull, make_quick, with_login
from support.registry_server import FaultyRegistry, Reply, Request, make_certificate, serving

from ig_py.errors import (
    IgPyError,
    IntegrityError,
    LimitError,
    RegistryDenied,
    RegistryError,
    RegistryNotFound,
)
from ig_py.oci import limits
from ig_py.oci.auth import parse_challenge
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull, push


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    features.need("openssl")
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    return certificate


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_login(trusted: tuple[Path, Path], store: Store, tmp_path: Path, scheme: str) -> None:
    with serving(FaultyRegistry(login=("u", "p"), scheme=scheme), tls=trusted) as registry:
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
    with serving(FaultyRegistry(login=("u", "p"), scheme=scheme), tls=trusted) as registry:
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
    with serving(FaultyRegistry(login=("u", "p")), tls=certificate) as registry:
        with pytest.raises(RegistryError, match="SSL_CERT_FILE"):
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert registry.requests == []


def test_a_registry_listed_as_insecure_that_speaks_tls(
    trusted: tuple[Path, Path], store: Store
) -> None:
    with serving(FaultyRegistry(), tls=trusted) as registry, pytest.raises(RegistryError):
        do_pull(registry, store)


@pytest.mark.parametrize("kind", ["blob", "manifest"])
def test_redirects_to_another_host_carry_no_credentials(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path, kind: str
) -> None:
    """Registries keep blobs, and some also manifests, in object stores."""
    with (
        serving(FaultyRegistry(login=("u", "p")), tls=trusted) as registry,
        serving(FaultyRegistry(), tls=trusted, host="localhost") as other,
    ):
        registry.put("te", "1", image("a"))
        other.put("te", "1", image("a"))

        def away(request: Request, reply: Reply) -> Reply:
            if reply.status != 200:
                return reply
            return Reply(307, headers={"Location": f"{other.base}{request.path}?signature=secret"})

        registry.on("/blobs/" if kind == "blob" else "/manifests/", away)
        reference = normalize(f"{registry.host}/te:1")
        pull(reference, store, with_login(registry, tmp_path))
        assert {r.authorization for r in other.seen("GET")} == {""}
        if kind == "manifest":
            assert {r.path.rpartition("/")[2] for r in other.requests} >= {"1"}
            return
        fetched = {r.path.rpartition("/")[2] for r in other.requests}
        # The empty config travels inside its descriptor.
        assert fetched == {d for d, data in registry.blobs.items() if data != b"{}"}


def test_a_push_asks_another_host_what_is_there(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with (
        serving(FaultyRegistry(login=("u", "p")), tls=trusted) as registry,
        serving(FaultyRegistry(), tls=trusted, host="localhost") as other,
    ):
        for server in (registry, other):
            server.put("te", "1", image("a"))
        registry.on("HEAD", lambda q, r: r if r.status != 200 else Reply(
            307, headers={"Location": other.base + q.path}))  # fmt: skip
        reference, again = (normalize(f"{registry.host}/te:{tag}") for tag in (1, 2))
        pull(reference, store, with_login(registry, tmp_path))
        store.tag(str(reference), str(again))
        push(again, store, with_login(registry, tmp_path))
        assert registry.manifests["te", "2"][1] == registry.manifests["te", "1"][1]
        assert {r.authorization for r in other.requests} == {""}
        assert other.seen("/blobs/")


def test_another_port_is_another_origin(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with (
        serving(FaultyRegistry(login=("u", "p"), scheme="basic"), tls=trusted) as registry,
        serving(FaultyRegistry(login=("u", "p"), scheme="basic"), tls=trusted) as other,
    ):
        registry.put("te", "1", image("a"))
        registry.on("/blobs/", lambda q, r: r if r.status != 200 else Reply(
            307, headers={"Location": other.base + q.path}))  # fmt: skip
        with pytest.raises(RegistryDenied):
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert {r.authorization for r in other.requests} == {""}


def test_from_tls_to_plain_http(trusted: tuple[Path, Path], store: Store, tmp_path: Path) -> None:
    with (
        serving(FaultyRegistry(), tls=trusted) as registry,
        serving(FaultyRegistry()) as plain,
    ):
        registry.put("te", "1", image("a"))
        plain.put("te", "1", image("a"))
        registry.on("/blobs/", lambda q, _: Reply(302, headers={"Location": plain.base + q.path}))
        with pytest.raises(RegistryError, match="server without HTTPS"):
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert plain.requests == []


def test_uploads_elsewhere_carry_no_credentials(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with (
        serving(FaultyRegistry(login=("u", "p")), tls=trusted) as registry,
        serving(FaultyRegistry(), tls=trusted, host="localhost") as other,
    ):
        reference = normalize(f"{registry.host}/te:1")
        store.add(image("a"), str(reference))
        registry.on(
            "^POST",
            lambda q, r: (
                r
                if r.status != 202
                else Reply(
                    202, headers={"Location": f"{other.base}/v2/te/blobs/uploads/1?sig=secret"}
                )
            ),
        )
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
        serving(FaultyRegistry(login=("u", "p")), tls=trusted) as registry,
        serving(FaultyRegistry(), tls=trusted, host="localhost") as thief,
        serving(FaultyRegistry()) as plain,
    ):
        port = thief.host.partition(":")[2]
        wanted = realm.format(port=port, plain=plain.host.partition(":")[2])
        registry.realm = wanted or "?"
        with pytest.raises(RegistryDenied, match="no credentials were sent"):
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert thief.requests == plain.requests == []
        assert {r.authorization for r in registry.requests} == {""}


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_an_anonymous_token_may_come_from_another_host(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path, scheme: str
) -> None:
    """Registries that companies run have it elsewhere; there is nothing that it could learn."""
    with (
        serving(FaultyRegistry(), tls=trusted) as registry,
        serving(FaultyRegistry(), tls=trusted, host="localhost") as other,
    ):
        registry.put("te", "1", image("a"))
        realm = f"{other.base}/token".replace("https:", f"{scheme}:")
        token = "anyone"
        other.on("/token", lambda *_: Reply(200, json.dumps({"token": token}).encode()))
        registry.on("/v2/", lambda q, r: r if q.authorization == f"Bearer {token}" else Reply(
            401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'}))  # fmt: skip
        options = RegistryOptions(auth_file(tmp_path, "other.example"), timeouts=QUICK)
        if scheme == "http":
            with pytest.raises(RegistryDenied, match="not its own"):
                pull(normalize(f"{registry.host}/te:1"), store, options)
            assert other.requests == []
            return
        pull(normalize(f"{registry.host}/te:1"), store, options)
        assert {r.authorization for r in other.requests} == {""}


def test_a_token_service_on_another_port_of_the_same_host(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with (
        serving(FaultyRegistry(login=("u", "p")), tls=trusted) as registry,
        serving(FaultyRegistry(login=("u", "p")), tls=trusted) as tokens,
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
    with serving(FaultyRegistry(login=("u", "p")), tls=trusted) as registry:
        registry.on("/token", lambda *_: reply)
        with pytest.raises(IgPyError) as caught:
            pull(normalize(f"{registry.host}/te:1"), store, with_login(registry, tmp_path))
        assert isinstance(caught.value, RegistryError | LimitError | IntegrityError)


def test_a_registry_says_why_a_repository_is_not_found(
    trusted: tuple[Path, Path], store: Store
) -> None:
    body = {"errors": [{"code": "NAME_UNKNOWN", "message": "create the repository first"}]}
    with serving(FaultyRegistry(), tls=trusted) as registry:
        registry.on("GET", lambda *_: Reply(404, json.dumps(body).encode()))
        with pytest.raises(RegistryNotFound, match="not found: NAME_UNKNOWN: create the repo"):
            pull(normalize(f"{registry.host}/te:1"), store, RegistryOptions(timeouts=QUICK))


BASIC, BEARER = 'Basic realm="x"', 'Bearer realm="https://a/t",service="s"'


@pytest.mark.parametrize(
    "header",
    [
        BEARER,
        f"{BASIC}, {BEARER}",
        f"{BEARER}, {BASIC}",
        f"Negotiate, {BEARER}",
        f"NTLM TlRMTVNTUAAB==, {BEARER}",
        f",, {BEARER} ,{BASIC}",
        "bearer realm=https://a/t,service=s",
        'Bearer realm = "https://a/t" , service = "s"',
        'Bearer\trealm="https://a/t",\tservice="s"',
    ],
)
def test_a_token_is_asked_for_where_it_is_offered(header: str) -> None:
    assert parse_challenge(header) == ("bearer", {"realm": "https://a/t", "service": "s"})


def test_a_password_is_shown_where_no_token_is_offered() -> None:
    assert parse_challenge(f"Negotiate, {BASIC}") == ("basic", {"realm": "x"})
    assert parse_challenge("Negotiate abc=") == ("negotiate", {})
    assert parse_challenge(' ,"') == ("", {})


@pytest.mark.parametrize(
    "command", [{"credsStore": "is-not-there"}, {"credHelpers": {"HOST": "is-not-there"}}]
)
def test_a_missing_helper_stops_no_public_pull(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path, command: dict[str, Any]
) -> None:
    path = tmp_path / "helper.json"
    with serving(FaultyRegistry(), tls=trusted) as registry:
        path.write_text(json.dumps(command).replace("HOST", registry.host))
        options = RegistryOptions(authfile=str(path), timeouts=QUICK)
        registry.put("te", "1", image("a"))
        pull(normalize(f"{registry.host}/te:1"), store, options)
        registry.on("GET", lambda *_: Reply(401, headers={"WWW-Authenticate": BASIC}))
        with pytest.raises(RegistryDenied, match="docker-credential-is-not-there"):
            pull(normalize(f"{registry.host}/te:1"), store, options)


@pytest.mark.parametrize(
    "challenge",
    ["", "Negotiate", "Bearer", 'Bearer realm="', "Bearer realm=,,,", "Basic" + " x" * 50_000],
)
def test_challenges_that_are_not_understood(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path, challenge: str
) -> None:
    with serving(FaultyRegistry(), tls=trusted) as registry:
        registry.on("GET", lambda *_: Reply(401, headers={"WWW-Authenticate": challenge}))
        with pytest.raises(RegistryError):
            pull(normalize(f"{registry.host}/te:1"), store, RegistryOptions(timeouts=QUICK))


def test_passwords_are_in_no_message(
    trusted: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    with serving(FaultyRegistry(login=("u", "p")), tls=trusted) as registry:
        with pytest.raises(IgPyError) as caught:
            pull(normalize(f"{registry.host}/te:1"), store,
                 with_login(registry, tmp_path, password="hunter2"))  # fmt: skip
        assert "hunter2" not in f"{caught.value} {caught.value.detail} {caught.value!r}"
