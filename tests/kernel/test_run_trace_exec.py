"""The root gadget on this kernel, through the command line."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import bpf_ids, features, mounts
from support.bpf_holders import held_by, not_of_others
from support.root_gadget import image_tar
from support.running_gadget import IG_PY, RunningGadget, ig_py
from support.waiting import deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(600),
]

KEYS = {
    "args", "ctime", "cwd", "dev_major", "dev_minor", "error", "error_raw", "exepath", "fctime",
    "file", "file_from_rootfs", "from_rootfs", "fupper_layer", "inode", "k8s", "loginuid",
    "loginuser", "parent_exepath", "pctime", "proc", "pupper_layer", "runtime", "sessionid",
    "timestamp", "timestamp_raw", "tty", "tty_major", "tty_minor", "upper_layer",
}  # fmt: skip
PROC_KEYS = {"comm", "creds", "mntns_id", "parent", "pid", "tid"}
RUNTIME_KEYS = {
    "containerId", "containerImageDigest", "containerImageName", "containerName", "containerPid",
    "containerStartedAt", "runtimeName",
}  # fmt: skip
KINDS: tuple[bpf_ids.Kind, ...] = ("program", "map")
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


def started(tmp_path: Path, image: str, *arguments: str) -> RunningGadget:
    return RunningGadget(tmp_path, image, "--verify-image=false", "--host", *arguments)


def execute(*argv: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    process.wait(30)
    return process


def tracefs_mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if line.split()[2] in ("tracefs", "debugfs", "bpf")]


def test_every_event_has_every_key(tmp_path: Path, image: str) -> None:
    before = time.time_ns()
    with started(tmp_path, image, "-o", "json", "--paths") as run:
        run.wait_running()
        echo = execute("/bin/echo", "one two", "three")
        wait_for(lambda: "one two" in run.out, "the event is printed", 30)
        assert run.end() == 0
    event = next(e for e in run.events() if e["proc"]["pid"] == echo.pid)
    assert set(event) == KEYS
    assert set(event["proc"]) == PROC_KEYS
    assert set(event["runtime"]) == RUNTIME_KEYS
    assert event["args"] == "/bin/echo\u00a0one two\u00a0three"
    assert event["proc"]["comm"] == "echo"
    assert event["proc"]["parent"]["pid"] == os.getpid()
    assert event["proc"]["creds"] == {"gid": 0, "group": "root", "uid": 0, "user": "root"}
    assert event["proc"]["mntns_id"] == Path("/proc/self/ns/mnt").stat().st_ino
    assert (event["error"], event["error_raw"]) == ("", 0)
    assert event["cwd"] == str(Path.cwd())
    assert event["exepath"] == str(Path("/bin/echo").resolve())
    assert before <= event["timestamp_raw"] <= time.time_ns()
    assert event["runtime"]["containerName"] == ""
    if features.missing("kprobe"):
        assert (event["file"], event["inode"]) == ("", 0)
        assert "(kprobe/security_bprm_check) is skipped: " in run.err
        assert "these fields stay empty: file, " in run.err
    else:
        assert event["file"] == event["exepath"]
        assert event["inode"] == Path("/bin/echo").stat().st_ino
    assert run.account() == (len(run.events()), 0)


def test_a_failed_execution_is_reported_when_asked_for(tmp_path: Path, image: str) -> None:
    with started(tmp_path, image, "-o", "json", "--ignore-failed=false") as run:
        run.wait_running()
        with pytest.raises(FileNotFoundError):
            subprocess.run(["/no/such/program-4711"], check=False)
        wait_for(lambda: "program-4711" in run.out, "the event is printed", 30)
        assert run.end() == 0
    event = next(e for e in run.events() if "program-4711" in e["args"])
    assert (event["error"], event["error_raw"]) == ("ENOENT", 2)


def test_filters_in_the_kernel_and_after(tmp_path: Path, image: str) -> None:
    with (
        started(tmp_path / "a", image, "-o", "json", "--comm", "sh") as kernel,
        started(tmp_path / "b", image, "-o", "json", "-F", "proc.comm==cat,args~mem") as after,
    ):
        kernel.wait_running()
        after.wait_running()
        # comm is read before the execution: the shell's.
        execute("/bin/sh", "-c", "/bin/echo filtered; true")
        execute("/bin/cat", "/dev/null")
        execute("/bin/cat", "/proc/meminfo")
        wait_for(lambda: "filtered" in kernel.out and after.out, "events are printed", 30)
        assert kernel.end() == 0
        assert after.end() == 0
    found = {e["proc"]["pid"]: e for e in kernel.events()}
    assert [e["args"] for e in found.values() if "filtered" in e["args"]] == [
        "/bin/echo\u00a0filtered"
    ]
    assert not any("/dev/null" in e["args"] for e in found.values())
    assert {e["args"] for e in after.events()} == {"/bin/cat\u00a0/proc/meminfo"}


@pytest.mark.any_kernel
def test_columns(tmp_path: Path, image: str) -> None:
    with started(tmp_path, image, "--fields", "proc.comm,args,error") as run:
        run.wait_running()
        execute("/bin/echo", "\t\x1b")
        wait_for(lambda: "/bin/echo" in run.out, "the row is printed", 30)
        assert run.end() == 0
    lines = run.out.splitlines()
    assert lines[0] == f"{'COMM':16} {'ARGS':16} ERROR"
    assert all(len(line) == 39 for line in lines)
    assert f"{'echo':16} /bin/echo\\u00a0… {'':5}" in lines
    assert "\x1b" not in run.out


@pytest.mark.any_kernel
@pytest.mark.parametrize("mode", ["jsonpretty", "yaml"])
def test_documents(tmp_path: Path, image: str, mode: str) -> None:
    with started(tmp_path, image, "-o", mode, "-F", "proc.comm==echo") as run:
        run.wait_running()
        execute("/bin/echo", "document")
        wait_for(lambda: "upper_layer" in run.out, "the event is printed", 30)
        assert run.end() == 0
    event: dict[str, Any]
    if mode == "yaml":
        event = next(yaml.safe_load_all(run.out))
    else:
        event, _ = json.JSONDecoder().raw_decode(run.out)
    assert set(event) == KEYS
    assert event["args"] == "/bin/echo\u00a0document"


@pytest.mark.any_kernel
def test_none_prints_only_the_account(tmp_path: Path, image: str) -> None:
    with started(tmp_path, image, "-o", "none") as run:
        run.wait_running()
        execute("/bin/true")
        time.sleep(0.5)
        assert run.end(signal.SIGTERM) == 0
    assert run.out == ""
    emitted, lost = run.account()
    assert emitted >= 1
    assert lost == 0


@pytest.mark.any_kernel
def test_the_timeout_ends_a_run(image: str) -> None:
    began = time.monotonic()
    done = ig_py("run", image, "--verify-image=false", "--host", "-o", "json", "--timeout", "1")
    assert done.returncode == 0
    assert time.monotonic() - began > 1
    assert done.stderr.splitlines()[-1].startswith("exec: ")


@pytest.mark.any_kernel
def test_a_reader_that_leaves_ends_a_run(image: str) -> None:
    with subprocess.Popen(
        [IG_PY, "run", image, "--verify-image=false", "--host", "-o", "json", "--timeout", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        try:
            while not select_line(process):
                execute("/bin/true")
            process.stdout.close()
            end = time.monotonic() + deadline(30)
            while process.poll() is None and time.monotonic() < end:
                execute("/bin/true")
                time.sleep(0.05)
            assert process.returncode == 0
        finally:
            process.kill()


def select_line(process: subprocess.Popen[bytes]) -> bool:
    import select

    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 0.2)
    return bool(ready) and bool(os.read(process.stdout.fileno(), 1))


def test_nothing_is_left_whenever_it_is_stopped(tmp_path: Path, image: str) -> None:
    names = held_names(tmp_path / "held", image)
    chosen = random.Random(7)
    delays = [0.0, 0.05, *(chosen.uniform(0.05, 1.5) for _ in range(14))]
    with mounts.private():
        mounted = tracefs_mounts()
        for index, delay in enumerate(delays):
            before = {kind: set(bpf_ids.ids(kind)) for kind in KINDS}
            with started(tmp_path / str(index), image, "-o", "json") as run:
                time.sleep(delay)
                number = chosen.choice(STOPS)
                code = run.end(number)
            # Before its handlers are in place a process dies as any other does; before the guard
            # of a run is, its exit code is that of any command.
            assert code in (0, 128 + number, -number), (delay, code, run.err)
            assert "Error" not in run.err
            assert "Traceback" not in run.err

            def gone(before: dict[bpf_ids.Kind, set[int]] = before) -> bool:
                # The kernel frees with a delay (RCU); other tracers have theirs.
                for kind in KINDS:
                    ours = {n for n, name in bpf_ids.ids(kind).items() if name in names[kind]}
                    if not_of_others(kind, ours - before[kind]):
                        return False
                return True

            wait_for(gone, "programs and maps are gone", 60)
        assert tracefs_mounts() == mounted


def held_names(directory: Path, image: str) -> dict[bpf_ids.Kind, set[str]]:
    """Names of the programs and maps that the gadget has while it runs."""
    with started(directory, image, "-o", "json") as run:
        run.wait_running()
        held = held_by(run.process.pid)
        found = {
            kind: {bpf_ids.name(of, n) or "" for of, n in held if of == kind} for kind in KINDS
        }
        assert run.end() == 0
    assert all(found.values())
    return found


def test_programs_are_named_as_in_the_object(tmp_path: Path, image: str) -> None:
    with started(tmp_path, image, "-o", "none") as run:
        run.wait_running()
        held = held_by(run.process.pid)
        names = {bpf_ids.name(kind, number) for kind, number in held if kind == "program"}
        run.end()
    assert {"ig_execve_e", "ig_sched_exec"} <= names


@pytest.mark.any_kernel
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nosuch"], "Error: unknown flag: --nosuch"),
        (["-Z"], "Error: unknown shorthand flag: 'Z' in -Z"),
        (["--pid", "abc"], 'Error: invalid argument "abc" for "--pid" flag: '),
        (["--pid=-1"], 'Error: invalid argument "-1" for "--pid" flag: '),
        (["--ignore-failed=maybe"], 'Error: invalid argument "maybe" for "--ignore-failed" flag: '),
        (["--comm", "a-name-that-is-too-long"], "Error: setting parameter 'comm'"),
        (["--timeout", "1x"], 'Error: invalid argument "1x" for "-t, --timeout" flag: '),
        (["--timeout"], "Error: flag needs an argument: -t, --timeout"),
        (["--fields", "nosuch"], 'Error: failed to set fields: column "nosuch" is invalid'),
        (["-F", "nosuch==1"], "Error: filter rule 'nosuch==1'"),
        (["-F", "proc.pid~1"], "Error: filter rule 'proc.pid~1'"),
        (["-o", "json,exec:json"], "Error: parsing default output modes: mixed values"),
        (["--buffer-size", "7"], 'Error: invalid argument "7" for "--buffer-size" flag: '),
        (["--annotate", "x"], "Error: "),
        (["--filter", "@/no/such"], 'Error: invalid argument "@/no/such" for "-F, --filter" flag'),
    ],
)
def test_bad_input_is_one_line(image: str, arguments: list[str], message: str) -> None:
    done = ig_py("run", image, "--verify-image=false", "--host", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(message)


@pytest.mark.any_kernel
def test_paths_that_are_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no tar")
    for path in ("empty", "text", "missing"):
        done = ig_py("run", f"./{path}", "--verify-image=false", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize("buffer", ["16K", "8M"])
def test_every_event_is_emitted_or_lost(tmp_path: Path, image: str, buffer: str) -> None:
    uid, count = 54321, 400
    with started(tmp_path, image, "-o", "json", "--uid", str(uid), "--buffer-size", buffer) as run:
        run.wait_running()
        loop = f"i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done"
        argv = ["/bin/sh", "-c", loop]
        subprocess.run(argv, check=True, user=uid, cwd="/", timeout=deadline(60))
        # Stopped at once: events that are still in the buffer are counted, too.
        assert run.end() == 0
    emitted, lost = run.account()
    # The shell itself was executed too.
    assert emitted + lost == count + 1
    assert emitted == len(run.events())
    if buffer == "8M":
        assert lost == 0
