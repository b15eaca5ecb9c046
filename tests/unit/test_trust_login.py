"""``login`` and ``logout``: which credentials are kept, where, and which registry gets them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from support.registry_cases import QUICK, make_quick
from support.registry_server import FaultyRegistry, serving

from ig_py.cli import main
from ig_py.errors import IgPyError, RegistryDenied, RegistryError, UsageError
from ig_py.oci import credentials
from ig_py.oci.login import login, logout


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_login(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "deep" / "config.json"
    with serving(FaultyRegistry(login=("u1", "p1"), scheme=scheme)) as registry:
        where = login(registry.host, "u1", "p1", authfile=str(path), plain_http=True)
        assert where == str(path)
        # The bytes that ig writes (docs/reference/image-format.md#credentials).
        assert path.read_text().replace(registry.host, "HOST") == (
            '{\n\t"auths": {\n\t\t"HOST": {\n\t\t\t"auth": "dTE6cDE="\n\t\t}\n\t}\n}'
        )
        assert path.stat().st_mode & 0o777 == 0o600
        found = credentials.lookup(registry.host, str(path))
        assert (found.username, found.password) == ("u1", "p1")
        before = path.read_bytes()
        with pytest.raises(RegistryDenied, match="401"):
            login(registry.host, "u1", "wrong", authfile=str(path), plain_http=True)
        assert path.read_bytes() == before
        logout(registry.host, authfile=str(path))
        assert not credentials.lookup(registry.host, str(path))
        with pytest.raises(RegistryError, match="not logged in"):
            logout(registry.host, authfile=str(path))


def test_other_settings_stay(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"a.b": {"auth": "eDp5"}}, "HttpHeaders": {"x": "y"}}))
    with serving(FaultyRegistry(login=("u", "p"))) as registry:
        login(registry.host, "u", "p", authfile=str(path), plain_http=True)
    config = json.loads(path.read_text())
    assert set(config["auths"]) == {"a.b", registry.host}
    assert config["HttpHeaders"] == {"x": "y"}
    logout("", authfile=str(path))
    assert json.loads(path.read_text()) == {"auths": {}, "HttpHeaders": {"x": "y"}}


def test_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    link = tmp_path / "config.json"
    link.symlink_to("real.json")
    with serving(FaultyRegistry(login=("u", "p"))) as registry:
        login(registry.host, "u", "p", authfile=str(link), plain_http=True)
    assert link.is_symlink() and registry.host in (tmp_path / "real.json").read_text()


@pytest.mark.parametrize("settings", ["credsStore", "credHelpers"])
def test_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str) -> None:
    """A credential helper gets the secret; the file does not."""
    program = tmp_path / "docker-credential-mine"
    program.write_text(
        f"""#!{sys.executable}
import json, pathlib, sys
kept = pathlib.Path({str(tmp_path / "kept")!r})
text, verb = sys.stdin.read(), sys.argv[1]
if verb == "store":
    kept.write_text(text)
elif verb == "erase":
    kept.unlink()
elif kept.exists() and json.loads(kept.read_text())["ServerURL"] == text:
    print(kept.read_text())
else:
    print("credentials not found in native keychain")
    sys.exit(1)
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = tmp_path / "config.json"
    with serving(FaultyRegistry(login=("u", "s3cret"))) as registry:
        value = "mine" if settings == "credsStore" else {registry.host: "mine"}
        path.write_text(json.dumps({settings: value}))
        where = login(registry.host, "u", "s3cret", authfile=str(path), plain_http=True)
    assert where == "docker-credential-mine"
    assert "s3cret" not in path.read_text() and "s3cret" in (tmp_path / "kept").read_text()
    assert credentials.lookup(registry.host, str(path)).password == "s3cret"
    logout(registry.host, authfile=str(path))
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    "registry", ["", "https://x", "a/b", "a:b", "-x", "a b", "a\nb", "x:", "a@b"]
)
def test_bad_registries(registry: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="invalid registry"):
        login(registry, "u", "p", authfile=str(tmp_path / "c"), timeouts=QUICK)


@pytest.mark.parametrize(("user", "password"), [("", "p"), ("u", ""), ("a:b", "p"), ("u", "p\n")])
def test_bad_credentials(user: str, password: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        login("localhost:1", user, password, authfile=str(tmp_path / "c"))


def test_broken_files_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"auths": [')
    with serving(FaultyRegistry(login=("u", "p"))) as registry, pytest.raises(IgPyError):
        login(registry.host, "u", "p", authfile=str(path), plain_http=True)
    assert path.read_text() == '{"auths": ['


def test_a_hijacked_realm_sees_nothing(tmp_path: Path) -> None:
    with serving(FaultyRegistry()) as thief, serving(FaultyRegistry(login=("u", "p"))) as registry:
        registry.realm = f"{thief.base}/token"
        with pytest.raises(RegistryDenied, match="not its own"):
            login(registry.host, "u", "p", authfile=str(tmp_path / "c"), plain_http=True)
        assert thief.requests == []


def test_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    authfile = ["--authfile", str(tmp_path / "c.json")]
    with serving(FaultyRegistry(login=("u", "p w"))) as registry:
        stdin = io.TextIOWrapper(io.BytesIO(b"p w\r\n"))
        monkeypatch.setattr(sys, "stdin", stdin)
        argv = ["login", registry.host, "-u", "u", "--password-stdin", "--plain-http", *authfile]
        assert main(argv) == 0
        said = capsys.readouterr()
        assert said.out == "Login Succeeded\n" and "p w" not in said.err
        assert main(["logout", registry.host, *authfile]) == 0
        assert capsys.readouterr().out == "Logout Succeeded\n"
        for argv, reason in (
            (["login"], "exactly one registry"),
            (["logout"], "or --all"),
            (["login", "x", "-p", "a", "--password-stdin"], "mutually exclusive"),
            (["logout", registry.host, *authfile], "not logged in"),
            (["login", registry.host, "--plain-http", *authfile], "required"),
        ):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
            assert main(argv) == 1
            assert reason in capsys.readouterr().err


def test_certificates_are_always_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(FaultyRegistry(login=("u", "p"))) as registry:
        argv = ["login", registry.host, "-u", "u", "-p", "p", "--plain-http",
                "--authfile", str(tmp_path / "auth.json")]  # fmt: skip
        assert main([*argv, "--tls-verify=false"]) == 1
        assert "SSL_CERT_FILE" in capsys.readouterr().err
        assert registry.requests == []
        assert main([*argv, "--tls-verify=true"]) == 0
