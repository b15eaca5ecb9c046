"""What the root gadget says of an execution, case by case."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import features
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(600),
]

TIOCGPTN = 0x80045430
"""Number of the pseudo terminal behind a master (ioctl_tty(2)); Python does not name it."""

NBSP = "\u00a0"
ARGS_MAX = 5120
Find = Callable[[int], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.fixture(scope="module")
def events(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Find]:
    """Events of a process, from a gadget that reports everything."""
    arguments = [image, "--verify-image=false", "--host", "-o", "json"]
    arguments += ["--paths", "--ignore-failed=false"]
    with RunningGadget(tmp_path_factory.mktemp("run"), *arguments) as run:
        run.wait_running()

        def find(pid: int) -> list[dict[str, Any]]:
            def found() -> list[dict[str, Any]]:
                return [
                    e
                    for line in run.out.split("\n")[:-1]
                    if f'"pid":{pid},' in line and (e := json_of(line))["proc"]["pid"] == pid
                ]

            return wait_for(found, f"events of {pid}", 30)

        yield find
        assert run.end() == 0
        emitted, lost = run.account()
        assert (emitted, lost) == (len(run.events()), 0)


def json_of(line: str) -> Any:
    return json.loads(line)


def execute(argv: list[str], **kwargs: Any) -> int:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, **kwargs)
    assert process.wait(30) == 0
    return process.pid


def only(found: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(found) == 1
    return found[0]


def with_args(events: Find, pid: int, args: str) -> dict[str, Any]:
    """The event of *pid* with exactly *args*, which may not be its first."""
    return wait_for(
        lambda: next((e for e in events(pid) if e["args"] == args), None), f"the event {args}"
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["true"], "true"),
        (["not-its-name", "x"], f"not-its-name{NBSP}x"),
        (["true", "", "a b", ""], f"true{NBSP}{NBSP}a b{NBSP}"),
        (["true", *map(str, range(22))], NBSP.join(["true", *map(str, range(22))])),
        (["true", "tab\there", "ünï", "\x1b[31m"], f"true{NBSP}tab\there{NBSP}ünï{NBSP}\x1b[31m"),
        (["true", *["abc"] * 1000], NBSP.join(["true", *["abc"] * 1000])),
    ],
)
def test_arguments(events: Find, argv: list[str], expected: str) -> None:
    assert only(events(execute(argv, executable="/bin/true")))["args"] == expected


@pytest.mark.parametrize("spare", [-3, -2, -1, 0, 1, 2, 3])
def test_arguments_at_the_limit(events: Find, spare: int) -> None:
    """Bytes count, with two for each separator and one for the end."""
    fill = ARGS_MAX - 1 - len("true" + NBSP * 2) - len(NBSP.encode()) + 2 - len("Z") - spare
    argv = ["true", "A" * fill, "Z"]
    whole = NBSP.join(argv).encode()
    found = only(events(execute(argv, executable="/bin/true")))["args"].encode()
    if len(whole) <= ARGS_MAX - 1:
        assert found == whole
    else:
        # Arguments beyond the limit are cut, without a separator at the end.
        assert whole.startswith(found)
        assert found.endswith(b"A")
        assert len(found) >= ARGS_MAX - 4


@pytest.mark.parametrize("argv", [["true", "B" * 20_000, "c"], ["true", *["\u00e9" * 50] * 200]])
def test_arguments_beyond_the_limit(events: Find, argv: list[str]) -> None:
    found = only(events(execute(argv, executable="/bin/true")))["args"]
    text = found.rstrip("\ufffd").encode()
    assert NBSP.join(argv).encode().startswith(text)
    assert ARGS_MAX - 4 <= len(text) <= ARGS_MAX - 1


def test_very_many_arguments(events: Find) -> None:
    found = only(events(execute(["true", *[""] * 3000], executable="/bin/true")))["args"]
    assert found == "true" + NBSP * 1023


def test_a_failed_execution(events: Find, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            os.chdir("/usr/share")
            os.execv("/no/such/program", ["name", "a b", ""])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    event = only(events(child))
    assert (event["error"], event["error_raw"]) == ("ENOENT", 2)
    assert event["args"] == f"name{NBSP}a b{NBSP}"
    assert event["cwd"] == "/usr/share"
    # The program in place is still the caller's.
    assert event["exepath"] == str(Path("/proc/self/exe").resolve())
    assert event["proc"]["comm"] == Path("/proc/self/comm").read_text().removesuffix("\n")
    assert (event["ctime"], event["pctime"]) == (0, 0)
    assert (event["from_rootfs"], event["upper_layer"]) == (False, False)


def test_a_script(events: Find, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    event = only(events(execute([str(script), "x"], cwd="/usr")))
    assert event["args"] == f"/bin/sh{NBSP}{script}{NBSP}x"
    assert event["cwd"] == "/usr"
    assert event["proc"]["comm"] == "script.sh"
    assert event["exepath"] == str(Path("/bin/sh").resolve())
    assert event["ctime"] == Path("/bin/sh").stat().st_ctime_ns
    if not features.missing("kprobe"):
        assert event["file"] == str(script)
        assert event["fctime"] == script.stat().st_ctime_ns
        assert event["inode"] == script.stat().st_ino
        device = script.stat().st_dev
        assert (event["dev_major"], event["dev_minor"]) == (os.major(device), os.minor(device))


def test_a_script_without_interpreter(events: Find, tmp_path: Path) -> None:
    script = tmp_path / "plain.sh"
    script.write_text("exit 0\n")
    script.chmod(0o755)
    child = os.fork()
    if child == 0:
        try:
            os.execv(str(script), [str(script)])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    event = only(events(child))
    assert (event["error"], event["error_raw"]) == ("ENOEXEC", 8)
    assert event["args"] == str(script)
    if not features.missing("kprobe"):
        assert event["file"] == str(script)
        assert event["file_from_rootfs"] == (Path("/").stat().st_dev == script.stat().st_dev)


def test_a_thread_takes_over_the_process(events: Find) -> None:
    child = os.fork()
    if child == 0:
        threading.Thread(target=os.execv, args=("/bin/true", ["true", "thread"])).start()
        time.sleep(30)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    event = only(events(child))
    assert event["args"] == f"true{NBSP}thread"
    assert event["proc"]["tid"] == child


def test_several_executions_of_one_process(events: Find) -> None:
    pid = execute(["/bin/sh", "-c", "exec /bin/sh -c 'exec /bin/true last'"])
    wait_for(lambda: len(events(pid)) == 3, "all three events")
    assert [e["args"] for e in events(pid)] == [
        f"/bin/sh{NBSP}-c{NBSP}exec /bin/sh -c 'exec /bin/true last'",
        f"/bin/sh{NBSP}-c{NBSP}exec /bin/true last",
        f"/bin/true{NBSP}last",
    ]
    assert len({e["timestamp_raw"] for e in events(pid)}) == 3


def test_execveat_of_a_file_without_a_path(events: Find) -> None:
    memory = os.memfd_create("in-memory", 0)
    os.write(memory, Path("/bin/true").resolve().read_bytes())
    child = os.fork()
    if child == 0:
        try:
            os.execve(memory, ["from-memory"], {})
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    os.close(memory)
    event = only(events(child))
    assert event["args"] == "from-memory"
    assert event["exepath"] == "memfd:in-memory"
    assert event["from_rootfs"] is False


def test_the_controlling_terminal(events: Find) -> None:
    child, terminal = pty.fork()
    if child == 0:
        try:
            os.execv("/bin/sleep", ["sleep", "0.2"])
        finally:
            os._exit(1)
    number = struct.unpack("I", fcntl.ioctl(terminal, TIOCGPTN, bytes(4)))[0]
    os.waitpid(child, 0)
    os.close(terminal)
    event = only(events(child))
    assert (event["tty"], event["tty_major"], event["tty_minor"]) == (number, 136, number)
    without = only(events(execute(["/bin/true"], start_new_session=True)))
    assert (without["tty"], without["tty_major"], without["tty_minor"]) == (0, 0, 0)


def test_ids_and_names_of_the_process(events: Find) -> None:
    event = only(events(execute(["/bin/true"], user=1234, group=5678, extra_groups=[])))
    creds = event["proc"]["creds"]
    assert (creds["uid"], creds["gid"]) == (1234, 5678)
    login = Path("/proc/self/loginuid")
    if login.exists():
        assert event["loginuid"] == int(login.read_text())
        assert event["sessionid"] == int(Path("/proc/self/sessionid").read_text())


def test_the_parent(events: Find) -> None:
    event = only(events(execute(["/bin/true"])))
    me = Path("/proc/self/exe")
    assert event["parent_exepath"] == str(me.resolve())
    assert event["pctime"] == me.stat().st_ctime_ns
    assert event["proc"]["parent"]["pid"] == os.getpid()


def test_a_path_of_many_parts(events: Find, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*(f"part-{i:02}" for i in range(30)))
    deep.mkdir(parents=True)
    event = only(events(execute(["/bin/true"], cwd=deep)))
    assert event["cwd"] == str(deep)[:511]


def test_a_bind_mounted_directory(events: Find, tmp_path: Path) -> None:
    """Paths go through mount points; a file below another mount is not of the root's."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/prog").write_bytes(Path("/bin/true").resolve().read_bytes())
    (tmp_path / "tools/prog").chmod(0o755)
    (tmp_path / "seen").mkdir()
    pid = execute(
        [
            *("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c"),
            f"mount --bind {tmp_path}/tools {tmp_path}/seen && cd {tmp_path}/seen && exec ./prog",
        ]
    )
    event = with_args(events, pid, "./prog")
    assert event["exepath"] == f"{tmp_path}/seen/prog"
    assert event["cwd"] == f"{tmp_path}/seen"
    assert event["from_rootfs"] is False
    assert event["proc"]["mntns_id"] != Path("/proc/self/ns/mnt").stat().st_ino


@pytest.mark.needs("overlayfs")
@pytest.mark.parametrize(("program", "upper"), [("old", False), ("new", True)])
def test_layers_of_an_overlay(events: Find, tmp_path: Path, program: str, upper: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # An upper layer may not lie on an overlay, and the test's directory may.
    script = f"""
        mount -t tmpfs none {disk}; cd {disk}; mkdir l u w m; cp /bin/true l/old
        mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m
        cp /bin/true m/new; exec m/{program} last
    """
    pid = execute(["unshare", "--mount", "--propagation", "private", "/bin/sh", "-ec", script])
    last = with_args(events, pid, f"m/{program}{NBSP}last")
    assert last["upper_layer"] is upper
    assert last["pupper_layer"] is False
    assert last["exepath"] == f"{disk}/m/{program}"
