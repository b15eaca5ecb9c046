"""Names and passwords typed on a terminal: asked for, not shown, not kept in the open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.images import image
from support.registry_server import FaultyRegistry, serving
from support.terminal import ig_py

from ig_py.errors import UsageError
from ig_py.oci.trust.privatekeys import load_private_key


def test_login(tmp_path: Path) -> None:
    kept = tmp_path / "auth.json"
    with (
        serving(FaultyRegistry(login=("user", "p4ss"), scheme="basic")) as registry,
        ig_py("login", registry.host, "--plain-http", "--authfile", str(kept)) as terminal,
    ):
        terminal.expect("Username: ")
        assert terminal.echoes
        terminal.type("user\n")
        terminal.expect("Password: ")
        assert not terminal.echoes
        terminal.type("p4ss\n")
        assert terminal.status() == 0
    assert "Login Succeeded" in terminal.shown
    assert "p4ss" not in terminal.shown
    assert registry.host in json.loads(kept.read_text())["auths"]
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_wrong_password(tmp_path: Path) -> None:
    with (
        serving(FaultyRegistry(login=("user", "p4ss"), scheme="basic")) as registry,
        ig_py("login", registry.host, "-u", "user", "--plain-http",
              "--authfile", str(tmp_path / "auth.json")) as terminal,
    ):  # fmt: skip
        terminal.expect("Password: ")
        terminal.type("w0rds\n")
        assert terminal.status() == 1
    assert "401" in terminal.shown and "Traceback" not in terminal.shown
    assert "w0rds" not in terminal.shown
    assert not (tmp_path / "auth.json").exists()


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_giving_up(tmp_path: Path, key: str) -> None:
    """Ctrl-C and Ctrl-D at the password: an end without words, and a terminal that echoes."""
    with serving(FaultyRegistry(login=("user", "p4ss"))) as registry:
        with ig_py("login", registry.host, "-u", "user", "--plain-http",
                   "--authfile", str(tmp_path / "auth.json")) as terminal:  # fmt: skip
            terminal.expect("Password: ")
            terminal.type(key)
            assert terminal.status() not in (0, 127)
            assert terminal.echoes
        assert "Traceback" not in terminal.shown
        assert registry.requests == []


def test_a_new_key(tmp_path: Path) -> None:
    with ig_py(
        "image", "generate-key-pair", "--output-key-prefix", str(tmp_path / "k")
    ) as terminal:
        for first, second in (("secret", "other"), ("secret", "secret")):
            terminal.expect("Password of the private key: ")
            terminal.type(f"{first}\n")
            terminal.expect("Repeat for confirmation: ")
            terminal.type(f"{second}\n")
        assert terminal.status() == 0
    assert "secret" not in terminal.shown
    assert load_private_key(str(tmp_path / "k.key"), lambda: "secret").public.id
    with pytest.raises(UsageError, match="password is wrong"):
        load_private_key(str(tmp_path / "k.key"), lambda: "other")


@pytest.mark.parametrize("command", [["run"], ["image", "inspect"]])
def test_downloads_are_shown(tmp_path: Path, command: list[str]) -> None:
    """The wait for a build is announced; the image's own errors come later."""
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("big", size=50_000))
        flags = ["--insecure-registries", registry.host, "--verify-image=false"]
        with ig_py(
            *command, f"{registry.host}/te:1", *flags, IG_PY_STORE=str(tmp_path)
        ) as terminal:
            terminal.expect("pulling  [")
            terminal.expect("100%")
            terminal.status()
        assert registry.seen("GET .*/blobs/")
