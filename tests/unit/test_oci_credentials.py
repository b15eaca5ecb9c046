"""Where credentials are looked for, and which registry they are for."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ig_py.errors import RegistryError
from ig_py.oci import credentials
from ig_py.oci.credentials import Credentials, lookup

HUB = "https://index.docker.io/v1/"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(autouse=True)
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(credentials, "DEFAULT_AUTH_FILE", tmp_path / "ig.json")
    return tmp_path


def write(path: Path, value: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def auths(**entries: str) -> Any:
    return {"auths": {host: {"auth": b64(pair)} for host, pair in entries.items()}}


def test_nothing_anywhere() -> None:
    assert not lookup("r.example")


def test_order_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / ".docker" / "config.json", auths(r="docker:1"))
    assert lookup("r").username == "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "d"))
    write(tmp_path / "d" / "config.json", auths(r="chosen:1"))
    assert lookup("r").username == "chosen"
    write(tmp_path / "ig.json", auths(r="ig:1"))
    assert lookup("r").username == "ig"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", write(tmp_path / "env.json", auths(r="env:1")))
    assert lookup("r").username == "env"
    assert lookup("r", write(tmp_path / "flag.json", auths(r="flag:1"))).username == "flag"


def test_igs_own_file_hides_dockers(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", auths(r="docker:1"))
    write(tmp_path / "ig.json", {})
    assert not lookup("r")


def test_chosen_files_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistryError, match=r'opening auth file ".*/no": No such file'):
        lookup("r", f"{tmp_path}/no")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", f"{tmp_path}/no")
    with pytest.raises(RegistryError, match="opening auth file"):
        lookup("r")


@pytest.mark.parametrize(
    "text",
    ["nope", "[]", '{"auths": 5}', '{"auths": {"r": {"auth": "%"}}}', '{"a":1,"a":2}', "",
     '{"auths": {"r": {"auth": "' + b64("nocolon") + '"}}}', '{"credHelpers": []  , "x": 1, ']
)  # fmt: skip
def test_broken_files(tmp_path: Path, text: str) -> None:
    with pytest.raises(RegistryError, match=r"loading auth config.*auth\.json"):
        lookup("r", write(tmp_path / "auth.json", text))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": b64("u:p:q")}, Credentials("u", "p:q")),
        ({"username": "u", "password": "p"}, Credentials("u", "p")),
        ({"auth": b64("u:p"), "identitytoken": "t"}, Credentials("u", "p", "t")),
        ({"registrytoken": "t"}, Credentials(access_token="t")),
        ({}, Credentials()),
        ("text", Credentials()),
    ],
)
def test_entries(tmp_path: Path, entry: Any, expected: Credentials) -> None:
    path = write(tmp_path / "auth.json", {"auths": {"r": entry}})
    assert lookup("r", path) == expected


@pytest.mark.parametrize(
    ("key", "domain", "found"),
    [
        ("r", "r", True),
        ("r:5000", "r:5000", True),
        ("https://r", "r", True),
        ("https://r/v1/", "r", True),
        (HUB, "docker.io", True),
        ("index.docker.io", "docker.io", True),
        ("docker.io", "docker.io", True),
        ("r:5000", "r", False),
        ("r", "r:5000", False),
        ("evil-r", "r", False),
        ("r.evil", "r", False),
        ("x/r", "r", False),
        ("", "r", False),
    ],
)
def test_keys(tmp_path: Path, key: str, domain: str, found: bool) -> None:
    path = write(tmp_path / "auth.json", {"auths": {key: {"auth": b64("u:p")}}})
    assert bool(lookup(domain, path)) is found


def test_the_exact_key_comes_first(tmp_path: Path) -> None:
    entries = {"https://r/v1/": {"auth": b64("old:p")}, "r": {"auth": b64("new:p")}}
    assert lookup("r", write(tmp_path / "auth.json", {"auths": entries})).username == "new"


def test_basic() -> None:
    assert Credentials("u", "p").basic == "Basic dTpw"
    assert Credentials(identity_token="t").basic == ""
    assert "secret" not in repr(Credentials("u", "secret", "secret", "secret"))


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "bin").mkdir()
    program = folder / "bin" / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


@pytest.mark.parametrize("config", [{"credHelpers": {"r": "test"}}, {"credsStore": "test"}])
def test_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any) -> None:
    answer = r"{\"Username\":\"$server\",\"Secret\":\"s\"}"
    helper(tmp_path, monkeypatch, f'read server; [ "$1" = get ] && echo "{answer}"')
    assert lookup("r", write(tmp_path / "auth.json", config)) == Credentials("r", "s")


def test_helpers_with_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'echo \'{"Username":"<token>","Secret":"s"}\'')
    found = lookup("r", write(tmp_path / "auth.json", {"credsStore": "test"}))
    assert found == Credentials(identity_token="s")


def test_helpers_that_know_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    config = {"credsStore": "test", **auths(r="u:p")}
    assert lookup("r", write(tmp_path / "auth.json", config)).username == "u"


@pytest.mark.parametrize(
    "script", ["exit 3", "echo nonsense", "echo '{}'", "echo failed >&2; exit 1"]
)
def test_helpers_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """They have none; the file's own entries count then."""
    helper(tmp_path, monkeypatch, script)
    found = lookup("r", write(tmp_path / "auth.json", {"credsStore": "test"}))
    assert not found
    assert "docker-credential-test" in found.problem
    config = {"credHelpers": {"r": "test"}, **auths(r="u:p")}
    assert lookup("r", write(tmp_path / "auth.json", config)) == Credentials("u", "p")


@pytest.mark.parametrize("bad", ["../x", "/bin/sh", "a b", "-x", "a\nb", "nosuchhelper"])
def test_helpers_of_odd_names(tmp_path: Path, bad: str) -> None:
    found = lookup("r", write(tmp_path / "auth.json", {"credsStore": bad}))
    assert not found
    assert found.problem
