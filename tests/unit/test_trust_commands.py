"""The commands around signatures."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import trust
from support.images import image, name

from ig_py.cli import main
from ig_py.oci.store import Store

pytestmark = pytest.mark.needs("openssl")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    return store


def test_from_key_to_verdict(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "secret")
    prefix, where = str(tmp_path / "team"), ["--oci-store", str(store.root)]
    assert main(["image", "generate-key-pair", "--output-key-prefix", prefix]) == 0
    assert main(["image", "sign", "x:1", "--key", f"{prefix}.key", *where]) == 0
    said = capsys.readouterr()
    assert f"Successfully signed {name('x:1')}@{image('a').index.digest}" in said.err
    # As a file, and as text.
    for key in (f"{prefix}.pub", Path(f"{prefix}.pub").read_text()):
        assert main(["image", "verify", "x:1", f"--public-keys={key}", *where]) == 0
        said = capsys.readouterr()
        assert said.out == "Verifying image: x:1\nImage verified successfully!\n"
    _, other = trust.make_key(tmp_path, "p256", "other")
    assert main(["image", "verify", "x:1", "--public-keys", str(other), *where]) == 1
    said = capsys.readouterr()
    assert "successfully" not in said.out and "not signed by the given key" in said.err
    assert main(["image", "verify", "x:1", "--public-keys", f"{other},{prefix}.pub", *where]) == 0
    monkeypatch.setenv("COSIGN_PASSWORD", "wrong")
    assert main(["image", "sign", "x:1", "--key", f"{prefix}.key", *where]) == 1
    assert "password is wrong" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["verify"], "accepts 1 arg(s), received 0"),
        (["verify", "nope"], "in local store: not found"),
        (["verify", "x:1", "--public-keys="], "empty"),
        (["verify", "x:1", "--public-keys=/nope"], "No such file"),
        (["verify", "x:1", "--notation-certificates=/nope"], "has no effect"),
        (["sign", "x:1", "--key", "/nope"], "No such file"),
        (["sign", "x:1", "--key", "env://NOPE_NOPE"], "NOPE_NOPE"),
        (["prune", "x"], "accepts 0 arg(s), received 1"),
    ],
)
def test_errors(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    reason: str,
) -> None:
    monkeypatch.setenv("IG_PY_STORE", str(store.root))
    assert main(["image", *argv]) == 1
    assert reason in capsys.readouterr().err


def test_pruning(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.add(image("b"), None)
    for flags, verb in ((["--dry-run"], "Would delete"), ([], "Deleted")):
        assert main(["image", "prune", "--oci-store", str(store.root), *flags]) == 0
        said = capsys.readouterr()
        # An index, two manifests, two programs, a wasm module; the config is shared.
        assert len(said.out.split()) == 6 and f"{verb} 6 blobs" in said.err
    assert main(["image", "prune", "--oci-store", str(store.root)]) == 0
    assert "Deleted 0 blobs" in capsys.readouterr().err
