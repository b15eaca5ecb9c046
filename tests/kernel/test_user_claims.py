"""What a local user without rights says of containers, with its own files, sockets and processes.

Each test is an attack on a run of root's that traces a container of root's.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime
from support.other_user import OtherUser
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget, ig_py
from support.victim import running_victim
from support.waiting import deadline, wait_for

from ig_py.containers.speakers import NOBODY, ROOT, Speaker, arguments
from ig_py.host.proc import HostView

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "busybox", "runc"),
    pytest.mark.timeout(300),
]

OWN = f"ig-py-{os.getpid()}"
VICTIM = f"{OWN}-victim"
TICK = "/bin/true"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[int]:
    """The init of a container of root's that executes a program again and again."""
    script = f"while :; do {TICK}; sleep 0.1; done"
    with running_victim(tmp_path / "victim", VICTIM, script) as pid:
        yield pid


def tracing(directory: Path, image: str, *arguments: str) -> RunningGadget:
    flags = ("--verify-image=false", "-o", "json", "--fail-on-loss")
    return RunningGadget(directory, image, *flags, *arguments)


def state(pid: int, bundle: str = "/x") -> str:
    start = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return json.dumps({"pid": pid, "process-start-time": start, "bundle": bundle})


def listed() -> dict[str, str]:
    """Id → name of every container that root is shown."""
    done = ig_py("list-containers", "-o", "json", seconds=60)
    assert done.returncode == 0, done.stderr
    return {
        c["runtime"]["containerId"]: c["runtime"].get("containerName", "")
        for c in json.loads(done.stdout)
    }


def names(gadget: RunningGadget) -> set[str]:
    return {name for name, _ in gadget.executions()}


def test_a_state_file_about_roots_container_changes_nothing(
    tmp_path: Path, image: str, user: OtherUser, victim: int
) -> None:
    with tracing(tmp_path / "run", image, "-c", VICTIM) as gadget:
        gadget.wait_running()
        wait_for(lambda: gadget.out.count("\n") >= 5, "first events", 20)
        for name in ("x", VICTIM):
            user.run(f"mkdir -p {user.runtime}/crun/{name} {user.runtime}/runc/{name}")
            user.run(f"echo '{state(victim)}' > {user.runtime}/crun/{name}/status")
            user.run(f"echo '{state(victim)}' > {user.runtime}/runc/{name}/state.json")
        wait_for(lambda: "ignored: statements of users" in gadget.err, "it is told", 20)
        before = gadget.out.count("\n")
        wait_for(lambda: gadget.out.count("\n") >= before + 10, "more events", 20)
        shown = listed()
        assert gadget.end() == 0, gadget.err
    assert names(gadget) == {VICTIM}
    assert "x" not in shown and shown[VICTIM] == VICTIM
    assert gadget.account()[1] == 0
    told = [line for line in gadget.err.splitlines() if "ignored: statements" in line]
    assert sum("level=warning" in line for line in told) == 1, "each kind is told once"


def test_a_process_of_the_host_does_not_become_a_container(
    tmp_path: Path, image: str, user: OtherUser, victim: int
) -> None:
    with tracing(tmp_path / "run", image) as gadget:
        gadget.wait_running()
        user.run(f"mkdir -p {user.runtime}/crun/host && echo ok > {user.runtime}/crun/host/x")
        with user.running("sleep", "300") as own:
            # One of the user's own that is in the host's namespaces, and one of root's.
            for pid in (own.pid, os.getpid(), 1):
                user.run(f"echo '{state(pid)}' > {user.runtime}/crun/host/status")
                time.sleep(0.3)
            for _ in range(20):
                subprocess.run(["/bin/true"], check=True)
        wait_for(lambda: "ignored: statements of users" in gadget.err, "it is told", 20)
        assert gadget.end() == 0, gadget.err
    assert "host" not in names(gadget)
    assert all(e["proc"]["parent"]["pid"] != os.getpid() for e in gadget.events())


@pytest.mark.parametrize("kind", ["fifo", "link", "device", "directory"])
def test_no_file_of_a_user_is_waited_for_or_followed(
    tmp_path: Path, image: str, user: OtherUser, victim: int, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(json.dumps({"pid": victim, "bundle": "/secret"}))
    secret.chmod(0o600)
    places = [user.runtime / "crun/bad/status", user.runtime / "runc/bad/state.json"]
    for place in places:
        user.run(f"mkdir -p {place.parent}")
        if kind == "device":
            os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
            os.chown(place, user.uid, user.uid)
        else:
            make = {"fifo": "mkfifo", "link": f"ln -s {secret}", "directory": "mkdir"}[kind]
            user.run(f"{make} {place}")
    began = time.monotonic()
    shown = listed()
    assert time.monotonic() - began < deadline(10)
    assert VICTIM in shown and "bad" not in shown
    with tracing(tmp_path / "run", image, "-c", VICTIM) as gadget:
        gadget.wait_running()
        wait_for(lambda: gadget.out.count("\n") >= 5, "events", 20)
        assert gadget.end() == 0, gadget.err


@pytest.mark.parametrize("place", ["config.json", "bundle"])
def test_a_bundle_that_is_a_fifo_holds_up_nothing(
    tmp_path: Path, image: str, user: OtherUser, victim: int, place: str
) -> None:
    """A process with the command line of a runtime names the bundle, and makes a namespace."""
    bundle = user.runtime / "b"
    fifo = bundle / "config.json" if place == "config.json" else bundle
    user.run(f"mkdir -p {fifo.parent} && mkfifo {fifo}")
    forged = f"{OWN}-forged"
    # A shell whose command line is that of a runtime: its script is called "run".
    (user.runtime / "run").write_text("unshare -Urmpf /bin/echo adv; sleep 2\n")
    command = ("runc", "run", "-b", str(bundle), forged)
    later = f"{OWN}-later"
    later_bundle = make_bundle(tmp_path / "later", "/bin/echo", "later")
    with tracing(tmp_path / "run", image, "-c", f"{VICTIM},{forged},{later}") as gadget:
        gadget.wait_running()
        wait_for(lambda: gadget.out.count("\n") >= 5, "first events", 20)
        with user.running(*command, executable="/bin/sh") as process:
            process.wait(deadline(20))
        runtime = Runtime("runc", str(tmp_path / "later" / "state"))
        runtime.call("run", "--bundle", str(later_bundle), later)
        wait_for(lambda: later in names(gadget), "containers are still found", 20)
        began = time.monotonic()
        assert VICTIM in listed()
        assert time.monotonic() - began < deadline(10)
        gadget.end()
    assert VICTIM in names(gadget)


def test_a_command_line_with_the_id_of_roots_container_brings_nothing_under_it(
    tmp_path: Path, image: str, user: OtherUser, victim: int
) -> None:
    (user.runtime / "run").write_text("unshare -Urmpf /bin/echo adv; sleep 1\n")
    with tracing(tmp_path / "run", image, "-c", VICTIM) as gadget:
        gadget.wait_running()
        wait_for(lambda: gadget.out.count("\n") >= 5, "first events", 20)
        for command in (
            ("runc", "run", "-b", "/x", VICTIM),
            ("conmon", "run", "-n", VICTIM, "-c", VICTIM),
        ):
            with user.running(*command, executable="/bin/sh") as process:
                process.wait(deadline(20))
        before = gadget.out.count("\n")
        wait_for(lambda: gadget.out.count("\n") >= before + 10, "more events", 20)
        gadget.end()
    assert names(gadget) == {VICTIM}
    assert not [args for _, args in gadget.executions() if "adv" in args]


def test_arguments_of_a_setuid_program_count_for_no_user(tmp_path: Path, user: OtherUser) -> None:
    """As sudo and su are: set-user-ID root, called by a user with arguments of the user's."""
    program = Path(f"/tmp/{OWN}-setuid")
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o4755)
    view = HostView()
    try:
        words = ("conmon", "300")
        with user.running(*words, executable=str(program)) as process:
            wait_for(lambda: view.status(process.pid).get("Name") == program.name[:15], "it runs")
            assert view.status(process.pid)["Uid"].split()[1] == "0"
            assert arguments(view, process.pid)[1] == NOBODY
    finally:
        program.unlink()
    with user.running("conmon", "300", executable="/bin/sleep") as process:
        wait_for(lambda: view.status(process.pid).get("Name") == "sleep", "it runs")
        assert arguments(view, process.pid)[1] == Speaker(user.uid)
    assert arguments(view, os.getpid())[1] == ROOT


SILENT = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(int(sys.argv[2]))
print("listens", flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("backlog", [16, 0])
def test_a_socket_that_never_answers_delays_nothing(
    user: OtherUser, victim: int, backlog: int
) -> None:
    def seconds() -> float:
        began = time.monotonic()
        assert VICTIM in listed()
        return time.monotonic() - began

    before = min(seconds() for _ in range(2))
    user.run(f"mkdir -p {user.runtime}/podman")
    path = f"{user.runtime}/podman/podman.sock"
    python = os.path.realpath("/usr/bin/python3")
    with user.running(python, "-c", SILENT, path, str(backlog)) as process:
        assert process.stdout is not None and process.stdout.readline() == b"listens\n"
        after = min(seconds() for _ in range(2))
    assert after < before + deadline(2), f"{before:.1f} s without, {after:.1f} s with the socket"


LIAR = """
import http.server, json, os, socketserver, sys
ID, PID = sys.argv[2], int(sys.argv[3])
class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self): return "-"
    def log_message(self, *args): pass
    def do_GET(self):
        entry = {"Id": ID, "Names": ["/renamed"], "Image": "evil", "ImageID": "", "Labels": {},
                 "State": "running", "HostConfig": {"NetworkMode": "none"}}
        inspect = {"Id": ID, "Name": "/renamed", "Image": "", "Config": {"Image": "evil"},
                   "HostConfig": {"NetworkMode": "none"}, "State": {"Running": True, "Pid": PID}}
        path = self.path.split("?")[0]
        if path.endswith("/version"): body = {"ApiVersion": "1.41"}
        elif path.endswith("/containers/json"): body = [entry]
        elif path.endswith("/events"):
            self.send_response(200); self.end_headers()
            import time
            time.sleep(300)
            return
        else: body = inspect
        raw = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
server = Server(sys.argv[1], Handler)
print("listens", flush=True)
server.serve_forever()
"""


def test_a_users_podman_renames_no_container_of_roots(
    tmp_path: Path, image: str, user: OtherUser, victim: int
) -> None:
    user.run(f"mkdir -p {user.runtime}/podman")
    path = f"{user.runtime}/podman/podman.sock"
    python = os.path.realpath("/usr/bin/python3")
    with user.running(python, "-c", LIAR, path, VICTIM, str(victim)) as process:
        assert process.stdout is not None and process.stdout.readline() == b"listens\n"
        with tracing(tmp_path / "run", image, "-c", VICTIM) as gadget:
            gadget.wait_running()
            wait_for(lambda: gadget.out.count("\n") >= 10, "events", 20)
            shown = listed()
            gadget.end()
    assert names(gadget) == {VICTIM}
    assert shown[VICTIM] == VICTIM
    assert "renamed" not in shown.values()


FLOOD = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        libc.unshare(0x10020000)  # CLONE_NEWUSER | CLONE_NEWNS
        time.sleep(3)
        os._exit(0)
    time.sleep(0.001)
"""
"""Namespaces in which no program is executed: these are undecided for the whole time."""


def test_a_flood_of_users_namespaces_hides_no_container(
    tmp_path: Path, image: str, user: OtherUser
) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    runtime = Runtime("runc", str(tmp_path / "bundle" / "state"))
    wanted = [f"{OWN}-flooded-{number}" for number in range(12)]
    with tracing(tmp_path / "run", image, "-c", ",".join(wanted)) as gadget:
        gadget.wait_running()
        python = (os.path.realpath("/usr/bin/python3"), "-c", FLOOD)
        with user.running(*python), user.running(*python):
            time.sleep(3)
            for name in wanted:
                runtime.call("run", "--bundle", str(bundle), name)
        wait_for(lambda: gadget.out.count("\n") >= len(wanted), "all events", 20)
        assert gadget.end() == 0, gadget.err
    assert gadget.executions() == [(name, "/bin/echo out") for name in wanted]
    assert gadget.account() == (len(wanted), 0)


def test_rootless_containers_are_still_found(tmp_path: Path, image: str, user: OtherUser) -> None:
    """What a user says counts for processes of that user."""
    script = "echo $$ > pid; sleep 300"
    init = user.runtime / "pid"
    command = f"cd {user.runtime} && exec unshare -Urm sh -c '{script}'"
    with user.running("sh", "-c", command):
        wait_for(lambda: init.exists() and init.read_text(), "it runs", 20)
        pid = int(init.read_text())
        user.run(f"mkdir -p {user.runtime}/crun/mine")
        user.run(f"echo '{state(pid)}' > {user.runtime}/crun/mine/status")
        wait_for(lambda: listed().get("mine") == "mine", "it is listed", 30, 0.5)


CHURN = r"""
import ctypes, os, sys, time
victim, end = sys.argv[1], time.monotonic() + float(sys.argv[2])
libc = ctypes.CDLL(None)
place = os.path.join(os.environ["OWN"], victim)
os.makedirs(place, exist_ok=True)
link = os.path.join(os.environ["OWN"], "link")
number = 0
while time.monotonic() < end:
    number += 1
    pid = os.fork()
    if pid == 0:
        # Another name, directory, program and namespace at every moment at which root may look.
        libc.prctl(15, b"runc:[1:CHILD]" if number % 2 else b"conmon", 0, 0, 0)
        temporary = f"{link}{os.getpid()}"
        os.symlink("/etc" if number % 3 else place, temporary)
        os.rename(temporary, link)
        os.chdir(link)
        script = "cd /; unshare -Urmpf /bin/true; exec /bin/true"
        words = ["conmon", "run", "-n", victim, "-c", victim, "-b", link]
        if number % 2:
            words = ["runc", "--root", link, "run", "-b", link, victim]
        os.execv("/bin/sh", [words[0], "-c", script, *words])
    if number % 8 == 0:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]: pass
        except ChildProcessError: pass
        time.sleep(0.01)
"""


def test_processes_that_change_while_they_are_looked_at(
    tmp_path: Path, image: str, user: OtherUser, victim: int
) -> None:
    """They fork, take other names and programs, move and end, in links that change as well."""
    argv = ("env", f"OWN={user.runtime}", sys.executable, "-c", CHURN, VICTIM, "12")
    with tracing(tmp_path / "run", image, "-c", VICTIM) as gadget:
        gadget.wait_running()
        wait_for(lambda: gadget.out.count("\n") >= 5, "first events", 20)
        with user.running(*argv) as process:
            for _ in range(3):
                began = time.monotonic()
                assert listed()[VICTIM] == VICTIM
                assert time.monotonic() - began < deadline(10)
            before = gadget.out.count("\n")
            wait_for(lambda: gadget.out.count("\n") >= before + 10, "more events", 20)
            process.wait(deadline(60))
        gadget.end()
    assert names(gadget) == {VICTIM}
    assert gadget.account()[1] == 0
    assert "Traceback" not in gadget.err
    assert "watching containers" not in gadget.err
    assert not [line for line in gadget.err.splitlines() if "reading '" in line]
