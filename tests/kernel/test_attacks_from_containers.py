"""What the programs of a container without rights do while root traces another container.

The container is root's, started by runc: in a user namespace, or with user id 0 and no rights.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import find_program
from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime
from support.python_container import KINDS, python_container
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget, ig_py
from support.victim import running_victim
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "busybox", "runc"),
    pytest.mark.timeout(300),
]

OWN = f"ig-py-{os.getpid()}"
VICTIM = f"{OWN}-victim"
# An execution each time, with its number.
VICTIMS_SCRIPT = "n=0; while :; do n=$((n+1)); /bin/true $n; sleep 0.05; done"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[None]:
    """A container of root's that numbers its executions."""
    with running_victim(tmp_path / "victim", VICTIM, VICTIMS_SCRIPT):
        yield


def tracing(directory: Path, image: str, *arguments: str) -> RunningGadget:
    flags = ("--verify-image=false", "-o", "json", *arguments)
    return RunningGadget(directory, image, *flags)


def flags(selected: str, attacking: str) -> list[str]:
    return {"victim": ["-c", VICTIM], "both": ["-c", f"{VICTIM},{attacking}"], "host": ["--host"]}[
        selected
    ]


def numbers(gadget: RunningGadget) -> list[int]:
    """Of the victim's executions, as they were traced."""
    told = (args for name, args in gadget.executions() if name == VICTIM)
    return [int(found[1]) for args in told if (found := re.fullmatch(r"/bin/true (\d+)", args))]


def wait_for_executions(gadget: RunningGadget, more: int) -> None:
    """Until the victim was seen to execute *more* programs."""
    before = gadget.out.count(f'"containerName":"{VICTIM}"')
    wait_for(
        lambda: gadget.out.count(f'"containerName":"{VICTIM}"') >= before + more,
        "executions of the victim",
        60,
    )


def check_complete(gadget: RunningGadget) -> None:
    """No execution of the victim is missing, and none has another name."""
    found = numbers(gadget)
    assert found == list(range(found[0], found[0] + len(found)))
    strangers = [a for name, a in gadget.executions() if name == VICTIM and "/bin/true" not in a]
    assert set(strangers) == {"sleep 0.05"}
    assert gadget.account()[1] == 0, gadget.err
    assert "Traceback" not in gadget.err
    assert "watching containers" not in gadget.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", gadget.err)


def listed() -> dict[str, str]:
    """Id → name of every container that root is shown, without control characters."""
    done = ig_py("list-containers", "-o", "json", seconds=60)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", done.stdout)
    return {
        c["runtime"]["containerId"]: c["runtime"].get("containerName", "")
        for c in json.loads(done.stdout)
    }


# Processes that call themselves as runtimes, monitors and shims do, by each of the means to do so,
# and then make a mount namespace in which a program is executed.
FORGERY = r"""
import ctypes, os, struct, sys, time
victim = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
ODD = "\x1b]0;odd\x07\x9b2J\n\u202e"
odd = "/own/" + ODD
os.symlink("/bin/true", odd)
os.makedirs(f"/run/{victim}"); os.mkfifo(f"/run/{victim}/config.json")
os.makedirs("/run/runc/" + victim); os.mkfifo(f"/run/runc/{victim}/state.json")
os.makedirs("/run/crun/" + victim); os.symlink("/proc/kmsg", f"/run/crun/{victim}/status")
os.mkfifo("/run/bundle"); os.symlink("/proc/1/root", "/run/out")
deep = b"/run/deep"
os.mkdir(deep); os.chdir(deep)
for _ in range(2000):
    os.mkdir("d" * 250); os.chdir("d" * 250)
words = [
    ["conmon", "--api-version", "1", "-c", victim, "-n", "renamed", "-b", f"/run/{victim}"],
    ["runc", "run", "-b", f"/run/{victim}", victim],
    ["runc", "--root", "/run/runc", "create", "--bundle", "/run/bundle", victim],
    ["crun", "run", "--bundle=/run/out", victim],
    ["containerd-shim-runc-v2", "-namespace", "moby", "-id", victim, "-address", "/run/x"],
    ["runc", "create", "-b", "/", ODD],
    ["conmon"] + ["-n" + ODD] * 300,
    ["runc", "run", "-b", "/" + "x" * 100_000, "y" * 100_000],
    ["runc", "start", victim],
]

def rewrite(argv):
    # The memory of the arguments is the process's own (proc_pid_stat(5), arg_start and arg_end).
    fields = open("/proc/self/stat").read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    text = "\0".join(argv).encode()[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
    for option, value in ((8, start), (9, start + len(text))):  # PR_SET_MM_ARG_START, _END
        libc.prctl(35, option, ctypes.c_ulong(value), 0, 0)

def child(number, argv):
    names = (b"runc:[2:INIT]", b"conmon", b"\x1b[2J\x07", b"exe", b"crun")
    libc.prctl(15, names[number % len(names)], 0, 0, 0)
    script = "unshare -Urm " + ("/bin/true" if number % 2 else '"$ODD"')
    if number % 4 == 3:
        rewrite(argv)
        os.system(script)
        os._exit(0)
    os.execve("/bin/sh", [argv[0], "-c", script, *argv[1:]], {"ODD": odd, "PATH": "/bin:/usr/bin"})

open("/own/begun", "w").write("yes")
number = 0
while True:
    number += 1
    if os.fork() == 0:
        child(number, words[number % len(words)])
    if number % 4 == 0:
        while number % 16 == 0:
            try:
                os.wait()
            except ChildProcessError:
                break
        open("/own/rounds", "w").write(str(number))
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("selected", ["victim", "both", "host"])
def test_what_processes_call_themselves(
    tmp_path: Path, image: str, victim: None, kind: str, selected: str
) -> None:
    with (
        python_container(kind, FORGERY, VICTIM) as attacking,
        tracing(tmp_path / "run", image, *flags(selected, attacking.name)) as gadget,
    ):
        gadget.wait_running()
        wait_for_executions(gadget, 5)
        attacking.start()
        attacking.wait_for_file("begun")
        for _ in range(2):
            shown = listed()
            assert shown[VICTIM] == VICTIM
            assert shown[attacking.name] == attacking.name
            assert "renamed" not in shown.values()
        wait_for_executions(gadget, 40)
        assert int(attacking.wait_for_file("rounds")) >= 10
        assert gadget.end() == 0, gadget.err
    check_complete(gadget)
    told = {name for name, _ in gadget.executions()}
    wanted = {VICTIM} if selected == "victim" else {VICTIM, attacking.name}
    assert told == (wanted | {""} if selected == "host" else wanted)


FLOOD = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
made = 0
while True:
    if os.fork() == 0:
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        libc.unshare(0x10020000)  # CLONE_NEWUSER | CLONE_NEWNS
        time.sleep(3)
        os._exit(0)
    made += 1
    if made % 100 == 0:
        open("/own/made", "w").write(str(made))
    time.sleep(0.001)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_of_namespaces_hides_no_container(tmp_path: Path, image: str, kind: str) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    runtime = Runtime("runc", str(tmp_path / "bundle" / "state"))
    wanted = [f"{OWN}-flooded-{number}" for number in range(12)]
    with (
        python_container(kind, FLOOD) as attacking,
        tracing(tmp_path / "run", image, "--fail-on-loss", "-c", ",".join(wanted)) as gadget,
    ):
        gadget.wait_running()
        attacking.start()
        wait_for(lambda: int(attacking.wait_for_file("made") or 0) >= 1000, "a flood", 60)
        for name in wanted:
            runtime.call("run", "--bundle", str(bundle), name)
        wait_for(lambda: gadget.out.count("\n") >= len(wanted), "all events", 20)
        assert gadget.end() == 0, gadget.err
    assert gadget.executions() == [(name, "/bin/echo out") for name in wanted]
    assert gadget.account() == (len(wanted), 0)


# Processes that are in no state to answer: stopped, traced, and in vfork(2).
STOPPED = r"""
import ctypes, os, platform, signal, sys
libc = ctypes.CDLL(None)
CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]
for number in range(60):
    pid = os.fork()
    if pid:
        continue
    name = (b"runc:[2:INIT]", b"conmon", b"crun")[number % 3]
    libc.prctl(15, name, 0, 0, 0)
    libc.unshare(0x10020000)  # CLONE_NEWUSER | CLONE_NEWNS
    if number % 3 == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif number % 3 == 1:
        libc.ptrace(0, 0, 0, 0)  # PTRACE_TRACEME
        os.execv("/bin/true", ["runc", "run", "-b", "/own", sys.argv[1]])
    elif libc.syscall(CLONE, 0x4000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:  # CLONE_VFORK
        signal.pause()
    os._exit(0)
open("/own/begun", "w").write("yes")
signal.pause()
"""


def states_below(init: int) -> set[str]:
    """Of the children of a process (proc_pid_stat(5))."""
    found = set()
    for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split():
        with contextlib.suppress(OSError):
            found.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_processes_that_are_stopped(tmp_path: Path, image: str, victim: None, kind: str) -> None:
    with (
        python_container(kind, STOPPED, VICTIM) as attacking,
        tracing(tmp_path / "run", image, *flags("both", attacking.name)) as gadget,
    ):
        gadget.wait_running()
        init = attacking.start()
        attacking.wait_for_file("begun")
        wait_for(lambda: {"T", "t", "D"} <= states_below(init), "they are stopped and wait", 20)
        shown = listed()
        assert (shown[VICTIM], shown[attacking.name]) == (VICTIM, attacking.name)
        wait_for_executions(gadget, 20)
        assert gadget.end() == 0, gadget.err
    check_complete(gadget)


# Executions as fast as they can be, 200 at a time, of a program that is held as runtimes are.
STARTS = """
import os, signal, sys
running = 0
for number in range(int(sys.argv[1])):
    if running >= 200:
        os.wait()
        running -= 1
        open("/own/started", "w").write(str(number))
    running += 1
    if os.fork() == 0:
        name = sys.argv[2] if number % 8 else f"other-{number}"
        os.execv("/bin/true", ["runc", "start" if number % 2 else "state", name])
open("/own/ended", "w").write("yes")
signal.pause()
"""
STARTED = 10_000


@pytest.mark.needs("hold")
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_starts_while_runtimes_are_held(
    tmp_path: Path, image: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers of root's start meanwhile, each held until programs are attached to it."""
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    runtime = Runtime("runc", str(tmp_path / "bundle" / "state"))
    wanted = [f"{OWN}-held-{number}" for number in range(5)]
    flags = ("--hold-containers", "-c", ",".join(wanted))
    # What the container executes is held as well: its /usr is the machine's.
    monkeypatch.setenv("RUNTIME_PATH", f"/bin/true:{find_program('runc')}")
    with (
        python_container(kind, STARTS, str(STARTED), wanted[-1]) as attacking,
        tracing(tmp_path / "run", image, *flags) as gadget,
    ):
        gadget.wait_running()
        attacking.start()
        for name in wanted:
            runtime.call("create", "--bundle", str(bundle), name)
            runtime.call("start", name)
        wait_for(lambda: gadget.out.count("\n") >= len(wanted), "all events", 60)
        attacking.wait_for_file("ended")
        assert gadget.end() == 0, gadget.err
    assert gadget.executions() == [(name, "/bin/echo out") for name in wanted]
    assert gadget.account() == (len(wanted), 0)
