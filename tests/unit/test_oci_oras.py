"""Our layouts, and our credentials as an authentication back-end, in the oras package's hands."""

from __future__ import annotations

from pathlib import Path

import oras.provider
import pytest
import requests
from oras.layout import Layout
from support import features
from support.images import image, name
from support.registry_cases import QUICK, make_quick
from support.registry_server import FaultyRegistry, make_certificate, serving

from ig_py.errors import RegistryDenied
from ig_py.oci.auth import Auth
from ig_py.oci.credentials import Credentials
from ig_py.oci.store import Store
from ig_py.oci.transport import Transport


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    features.need("openssl")
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    return certificate


def client(registry: FaultyRegistry, certificate: Path, password: str) -> oras.provider.Registry:
    """oras's own client with our back-end."""
    made = oras.provider.Registry(hostname=registry.host, tls_verify=str(certificate))
    asking = Transport(registry.host, scope="", timeouts=QUICK)
    made.auth = Auth(asking, asking.base, Credentials("u", password), "repository:te:pull")
    return made


def test_a_store_is_a_layout(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    assert Layout(str(store.root)).validate() == str(store.root)
    (store.root / "oci-layout").unlink()
    assert not Layout.is_oci_layout(str(store.root))


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_the_back_end_answers_for_another_client(trusted: tuple[Path, Path], scheme: str) -> None:
    with serving(FaultyRegistry(login=("u", "p"), scheme=scheme), tls=trusted) as registry:
        packed = image("a")
        registry.put("te", "1", packed)
        theirs = client(registry, trusted[0], "p")
        for _ in range(2):
            answer = theirs.do_request(f"https://{registry.host}/v2/te/manifests/1")
            assert answer.content == packed.blobs[packed.index.digest]
        assert len(registry.seen("/token")) == (scheme == "bearer")


def test_refused_credentials_are_our_error(trusted: tuple[Path, Path]) -> None:
    with serving(FaultyRegistry(login=("u", "p"), scheme="bearer"), tls=trusted) as registry:
        auth = client(registry, trusted[0], "wrong").auth
        refused = requests.get(
            f"https://{registry.host}/v2/te/tags/list", timeout=5, verify=str(trusted[0])
        )
        assert (refused.status_code, auth.get_auth_header()) == (401, {})
        with pytest.raises(RegistryDenied):
            auth.authenticate_request(refused, {})
        assert auth.get_auth_header() == {}
        # A header that is no challenge is not answered.
        del refused.headers["WWW-Authenticate"]
        assert auth.authenticate_request(refused, {"A": "b"}) == ({"A": "b"}, False)
