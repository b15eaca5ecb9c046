"""The image commands: what goes to which stream, and exit codes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import image, name
from support.registry_server import FaultyRegistry, serving

from ig_py.cli import main
from ig_py.oci.store import Store

DIGEST = image("a").index.digest


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("IG_PY_STORE", str(tmp_path / "store"))
    store = Store.open()
    store.add(image("a"), name("x:1"))
    return store


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with serving(FaultyRegistry()) as served:
        yield served


class Runner:
    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *args: str) -> tuple[int, str, str]:
        code = main(["image", *args])
        out, err = self._capfd.readouterr()
        return code, out, err


@pytest.fixture
def run(store: Store, capfd: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capfd)


def test_list(run: Runner) -> None:
    row = f"x 1 {DIGEST} 2026-11-23T05:27:26Z\n"
    for command in ("list", "ls"):
        assert run(command) == (0, f"REPOSITORY TAG DIGEST CREATED\n{row}", "")
    assert run("list", "--no-trunc")[1].endswith(row)
    code, out, err = run("list", "-o", "json")
    assert (code, err) == (0, "")
    assert out == json.dumps(
        [{"Repository": "x", "Tag": "1", "Digest": DIGEST, "Created": "2026-11-23T05:27:26Z"}],
        separators=(",", ":"),
    )
    assert run("list", "-o", "jsonpretty")[1] == json.dumps(json.loads(out), indent=2)


def test_listing_nothing(run: Runner, tmp_path: Path) -> None:
    empty = f"--oci-store={tmp_path}/empty"
    assert run("list", empty) == (0, "REPOSITORY TAG DIGEST CREATED\n", "")
    assert run("list", empty, "-o", "json") == (0, "[]", "")


def test_list_on_a_terminal(store: Store) -> None:
    leader, follower = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    done = subprocess.run(
        [sys.executable, "-m", "ig_py", "image", "list"],
        stdin=follower, stdout=follower, stderr=subprocess.PIPE, timeout=60, check=False,
    )  # fmt: skip
    os.close(follower)
    lines = os.read(leader, 10_000).decode().split("\r\n")
    os.close(leader)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [len(line) for line in lines] == [60, 60, 0]
    assert lines[1].split()[:3] == ["x", "1", DIGEST[7:19]]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["list", "-o", "yaml"],
         'invalid output mode "yaml", valid values are: columns, json, jsonpretty'),
        (["list", "extra"], 'unknown command "extra" for "ig-py image list"'),
        (["import", "x", "-o", "yaml"],
         'invalid output mode "yaml", valid values are: json, jsonpretty'),
        (["pull"], "accepts 1 arg(s), received 0"),
        (["push", "a", "b"], "accepts 1 arg(s), received 2"),
        (["tag", "a"], "accepts 2 arg(s), received 1"),
        (["remove"], "accepts 1 arg(s), received 0"),
        (["import"], "accepts 1 arg(s), received 0"),
        (["export", "a"], "requires at least 2 arg(s), only received 1"),
        (["export"], "requires at least 2 arg(s), only received 0"),
        (["tag", "nosuch:a", "b:c"], "tagging image: resolving src: not found"),
        (["tag", "x:1", "b:"],
         'tagging image: normalizing dst image: parsing normalized image "b:"'),
        (["rm", "nosuch:a"], "removing gadget image: resolving image: not found"),
        (["import", "/nonexist.tar"],
         "importing images: loading src bundle: open /nonexist.tar: no such file or directory"),
        (["export", "nosuch:a", "/tmp/never.tar"], "exporting images: not found"),
        (["export", "x:1", "/nonexist/zz.tar"],
         "exporting images: creating tar for gadget image: open /nonexist/zz.tar: no such file"),
        (["pull", "x/Y"], "repository name (x/Y) must be lowercase"),
        (["pull", "--authfile", "/nonexist", "r.example/x"], 'opening auth file "/nonexist"'),
        (["list", "--nope"], "unknown flag: --nope"),
    ],
)  # fmt: skip
def test_errors(run: Runner, args: list[str], message: str) -> None:
    code, out, err = run(*args)
    assert code == 1
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last
    assert "Traceback" not in err


def test_tag_and_remove(run: Runner, store: Store) -> None:
    assert run("tag", "x:1", "foo") == (
        0, "", f"Successfully tagged with {name('foo:latest')}@{DIGEST}\n",
    )  # fmt: skip
    assert run("rm", "x:1") == (0, "", "Successfully removed x:1\n")
    assert run("remove", "foo") == (0, "", "Successfully removed foo\n")
    assert store.images() == []


def test_export_and_import(run: Runner, tmp_path: Path) -> None:
    target = str(tmp_path / "x.tar")
    assert run("export", "x:1", target) == (
        0, "", f"Successfully exported images to {target}\n",
    )  # fmt: skip
    other = f"--oci-store={tmp_path}/other"
    full = name("x:1")
    assert run("import", other, target) == (0, f"Successfully imported images:\n  {full}\n", "")
    assert run("import", other, target, "-o", "json") == (0, f'["{full}"]\n', "")
    assert run("import", other, target, "-o", "jsonpretty") == (0, f'[\n  "{full}"\n]\n', "")


def test_push_and_pull(run: Runner, store: Store, registry: FaultyRegistry) -> None:
    full = f"{registry.host}/te:1"
    run("tag", "x:1", full)
    flag = f"--insecure-registries=other:1,{registry.host}"
    assert run("push", full, flag) == (
        0, "", f"Pushing {full}...\nSuccessfully pushed {full}@{DIGEST}\n",
    )  # fmt: skip
    run("remove", full)
    assert run("pull", full, "--insecure-registries", registry.host) == (
        0, "", f"Pulling {full}...\nSuccessfully pulled {full}@{DIGEST}\n",
    )  # fmt: skip
    code, out, err = run("pull", f"{registry.host}/te:nope", flag)
    assert (code, out) == (1, "")
    assert "pulling gadget: pulling image" in err and "not found" in err


def test_hostile_texts_do_not_reach_the_terminal(run: Runner, registry: FaultyRegistry) -> None:
    from support.registry_server import Reply

    body = b'{"errors":[{"code":"\\u001b[2J","message":"\\u202eevil\\u009b1m"}]}'
    registry.on("GET", lambda *_: Reply(400, body))
    _, _, err = run("pull", f"{registry.host}/x:1", "--insecure-registries", registry.host)
    assert "evil" in err
    assert not set(err) & set("\x1b\u202e\x9b")


def test_progress_only_on_a_terminal(store: Store, registry: FaultyRegistry) -> None:
    registry.put("te", "1", image("big", size=300_000))
    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "ig_py", "image", "pull", f"{registry.host}/te:1",
         "--insecure-registries", registry.host],
        stdout=subprocess.PIPE, stderr=follower, timeout=60, check=False,
    )  # fmt: skip
    os.close(follower)
    text = b""
    while True:
        try:
            text += os.read(leader, 10_000)
        except OSError:
            break
    os.close(leader)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"pulling" in text and b"100%" in text
    assert text.decode().rstrip().splitlines()[-1].startswith("Successfully pulled")
