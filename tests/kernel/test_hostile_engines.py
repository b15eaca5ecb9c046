"""A user's engine answers what it likes, as much as it likes, while root traces a container."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.other_user import OtherUser
from support.python_container import PYTHON
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget, ig_py
from support.victim import running_victim
from support.waiting import deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "busybox", "runc"),
    pytest.mark.timeout(300),
]

OWN = f"ig-py-{os.getpid()}"
VICTIM = f"{OWN}-victim"
EVENTS = 60
MOST_MIB = 200
"""Of a run with such an engine. One without takes about 80."""
MOST_SHARE = 0.25
"""Of a processor, in the mean, for a run whose victim executes ten programs a second."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[None]:
    script = "while :; do /bin/true; sleep 0.2; done"
    with running_victim(tmp_path / "victim", VICTIM, script):
        yield


ENGINE = r"""
import http.server, json, os, socketserver, sys, time
kind = sys.argv[2]
ODD = "\x1b]0;odd\x07\x9b2J\u202e"
def one(number, pid=0):
    return {"Id": "%064x" % number, "Names": ["/" + ODD + "n" * 5000], "Image": ODD,
            "ImageID": ODD + "i" * 5000, "State": "running", "HostConfig": {"NetworkMode": "none"},
            "Labels": {ODD + str(n): ODD + "l" * 5000 for n in range(8)}}
def event(number):
    return json.dumps({"Type": "container", "Action": "start", "id": "%064x" % number,
                       "Actor": {"ID": "%064x" % number, "Attributes": {"name": ODD}}}) + "\n"
BODY = {
    "lists": lambda: b"[" + b"[]," * 20_000_000 + b"[]]",
    "containers": lambda: json.dumps([one(n) for n in range(10_000)]).encode(),
    "many": lambda: json.dumps([{**one(n), "Names": ["/n"], "ImageID": "", "Labels": {}}
                                for n in range(10_000)]).encode(),
    "large labels": lambda: json.dumps([{**one(1), "Labels": {"a": "b" * 10_000_000}}]).encode(),
    "endless": lambda: b"[",
    # All that an answer may begin or end with, and events that are none.
    "continues": lambda: b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    "trailers": lambda: b"x: y\r\n" * 10_000,
    "newlines": lambda: b"\n" * 100_000,
    "small chunks": lambda: b"1\r\n \r\n" * 10_000,
}
STREAMS = ("continues", "trailers", "newlines", "small chunks")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self): return "-"
    def log_message(self, *args): pass
    def do_GET(self):
        self.close_connection = True
        path = self.path.split("?")[0]
        body = b"{}"
        if kind == "continues":
            while True: self.wfile.write(BODY[kind]())
        if path.endswith("/version"):
            body = b'{"ApiVersion": "1.41"}'
        elif path.endswith("/containers/json"):
            body = b"[]" if kind in STREAMS else BODY.get(kind, lambda: b"[]")()
        elif path.endswith("/events"):
            self.send_response(200)
            if kind in ("trailers", "small chunks"):
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if kind == "trailers":
                self.wfile.write(b"0\r\n")
            if kind in STREAMS:
                while True: self.wfile.write(BODY[kind]())
            if kind == "events":
                lines = "".join(map(event, range(1000))).encode()
                while True: self.wfile.write(lines)
            elif kind != "ends at once":
                time.sleep(300)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 40 if kind == "endless" else len(body)))
        self.end_headers()
        self.wfile.write(body)
        while kind == "endless": self.wfile.write(b"[]," * 100_000)
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
server = Server(sys.argv[1], Handler)
print("listens", flush=True)
server.serve_forever()
"""
KINDS = (
    *("lists", "containers", "many", "large labels", "endless", "events", "ends at once"),
    *("continues", "trailers", "newlines", "small chunks"),
)


def used(gadget: RunningGadget) -> tuple[float, int]:
    """Seconds of processor time so far, and the peak of memory in MiB."""
    process = Path(f"/proc/{gadget.process.pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    found = re.search(r"^VmHWM:\s+([0-9]+) kB", (process / "status").read_text(), re.M)
    assert found is not None
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(found[1]) >> 10


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_engine_answers(
    tmp_path: Path, image: str, user: OtherUser, victim: None, kind: str
) -> None:
    user.run(f"mkdir -p {user.runtime}/podman")
    path = f"{user.runtime}/podman/podman.sock"
    with user.running(PYTHON, "-c", ENGINE, path, kind) as engine:
        assert engine.stdout is not None and engine.stdout.readline() == b"listens\n"
        flags = ("--verify-image=false", "-o", "json", "-c", VICTIM)
        with RunningGadget(tmp_path / "run", image, *flags) as gadget:
            gadget.wait_running()
            before, _ = used(gadget)
            seen = gadget.out.count("\n")
            wait_for(lambda: gadget.out.count("\n") >= seen + EVENTS, "events", 60)
            after, peak = used(gadget)
            shown = ig_py("list-containers", "-o", "json", seconds=60)
            assert gadget.end() == 0, gadget.err
    spent = after - before
    print(f"{kind}: {spent:.2f} s for {EVENTS} events, {peak} MiB, {len(gadget.err)} bytes told")
    assert VICTIM in {c["runtime"]["containerId"] for c in json.loads(shown.stdout)}
    assert {name for name, _ in gadget.executions()} == {VICTIM}
    assert gadget.account()[1] == 0, gadget.err
    assert peak < MOST_MIB
    # Of two executions, one is a sleep of 0.2 s.
    assert spent < deadline(MOST_SHARE * EVENTS / 2 * 0.2)
    warnings = [line for line in gadget.err.splitlines() if "level=warning" in line]
    assert len(warnings) < 20
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", gadget.err + shown.stderr)
    assert "\u202e" not in gadget.err + shown.stderr
    assert "Traceback" not in gadget.err
