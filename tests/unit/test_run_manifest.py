"""Manifests of ``run --file``: where they come from, what they may say."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from ig_py.cli import _manifest, _run, _terminal
from ig_py.cli._flags import Flag, FlagSet
from ig_py.cli._run_flags import static_flags
from ig_py.errors import LimitError, MetadataError, UsageError
from ig_py.yamlsafe import MAX_BYTES

ONE = """\
---
---
apiVersion: 1
kind: instance-spec
image: trace_exec:latest
id: 00000000000000000000000000000001
name: one_of-them
tags: [a, b]
nodes: []
paramValues:
  operator.oci.ebpf.paths: true
  operator.oci.ebpf.pid: 0x2a
  operator.cli.fields: "pid,comm"
  operator.oci.ebpf.comm:
"""
VALUES = {
    "operator.oci.ebpf.paths": "true",
    "operator.oci.ebpf.pid": "0x2a",
    "operator.cli.fields": "pid,comm",
    "operator.oci.ebpf.comm": "",
}


def read(tmp_path: Path, text: str) -> _manifest.Manifest:
    (tmp_path / "m.yaml").write_text(text)
    return _manifest.read(str(tmp_path / "m.yaml"))


def test_scalars_are_taken_as_they_are_written(tmp_path: Path) -> None:
    assert read(tmp_path, ONE) == _manifest.Manifest("trace_exec:latest", VALUES)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(ONE.encode())))
    assert _manifest.read("-").image == "trace_exec:latest"


@pytest.mark.parametrize(
    ("changed", "to", "said"),
    [
        ("kind: instance-spec\n", "", r"m.yaml:3: kind is '', not 'instance-spec'"),
        ("instance-spec", "foo", r"m.yaml:4: kind is 'foo'"),
        ("apiVersion: 1", "apiVersion: 2", r"m.yaml:3: apiVersion is '2'"),
        ("image: trace_exec:latest\n", "", r"names no image"),
        ("trace_exec:latest", "[x]", r"m.yaml:5: image is no text"),
        ("0001", "001", r"m.yaml:6: .* is no id"),
        ("one_of-them", "M 1", r"m.yaml:7: 'M 1' is no name"),
        ("[a, b]", "[a, 'b,c']", r"m.yaml:8: a tag has a comma"),
        ("[a, b]", "[[a]]", r"m.yaml:8: tags is no list of texts"),
        ("nodes: []", "nodes: x", r"m.yaml:9: nodes is no list"),
        ("true", "[true]", r"the value of 'operator.oci.ebpf.paths' is no text"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, changed: str, to: str, said: str) -> None:
    assert changed in ONE
    with pytest.raises(UsageError, match=said):
        read(tmp_path, ONE.replace(changed, to))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has 0 gadgets"),
        ("---\n---\n", "it has 0 gadgets"),
        (ONE + ONE, "it has 2 gadgets, one is run at a time"),
        (" <!doctype html>", "it is a web page"),
        ("text", "it is no mapping"),
    ],
)
def test_documents_that_are_no_manifest(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(tmp_path, text)


def test_invalid_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match=r"m\.yaml:2: "):
        read(tmp_path, "a: 1\n  b: [\n")
    with pytest.raises(LimitError):
        read(tmp_path, "x" * (MAX_BYTES + 1))
    with pytest.raises(UsageError, match="No such file"):
        _manifest.read(str(tmp_path / "none"))


def test_unknown_keys_are_ignored_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(_terminal, "warn", said.append)
    read(tmp_path, ONE + "paramvalues: {}\n")
    assert len(said) == 1 and said[0].endswith("ignoring 'paramvalues'")


@contextmanager
def served(status: int, body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/m.yaml"
        finally:
            server.shutdown()
            thread.join()


def test_an_address() -> None:
    with served(200, ONE.encode()) as url:
        assert _manifest.read(url).values == VALUES
    path = ONE.replace("trace_exec:latest", "./gadget").encode()
    with served(200, path) as url, pytest.raises(UsageError, match="its image is a path"):
        _manifest.read(url)
    with served(404, b"") as url, pytest.raises(UsageError, match="answered 404"):
        _manifest.read(url)
    with served(200, b"x" * (MAX_BYTES + 1)) as url, pytest.raises(UsageError, match="sent more"):
        _manifest.read(url)


def test_a_manifest_cannot_set_the_trust_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(_terminal, "warn", said.append)
    static = static_flags()
    manifest = {
        "operator.oci.verify-image": "false",
        "operator.oci.pull": "never",
        "operator.oci.annotate": "a:b=c",
        "custom.x": "@/etc/passwd",
    }
    first = FlagSet(static).find_image(["--annotate=d:e=f"])
    early = _run._early_values(static, first, manifest)
    assert (early["verify-image"], early["pull"], early["annotate"]) == ("true", "never", "d:e=f")
    dynamic = [Flag("x", param="custom.x")]
    assert _run._of_manifest(dynamic, manifest) == {"custom.x": "@/etc/passwd"}
    assert len(said) == 1 and "'operator.oci.verify-image' is ignored" in said[0]
    with pytest.raises(UsageError, match="valid values are: always, missing, never"):
        _run._early_values(static, FlagSet(static).find_image([]), {"operator.oci.pull": "now"})


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-f", "m.yaml", "image"], "both an image"),
        (["image", "--file=m.yaml"], "both an image"),
        (["-f", "m.yaml", "-o", "json"], "unknown shorthand flag: 'o'"),
        (["-f", "m.yaml", "--fields", "pid"], "unknown flag: --fields"),
        (["-f"], "flag needs an argument"),
    ],
)
def test_a_manifest_leaves_no_flags_of_the_gadget(args: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        _run.run(args)
