"""Under ``-c``, events that the kernel lost are counted by whose they are.

The ring has room for two executions and the tracer stands still, so that nearly all events of the
container that is selected and of others are lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gadget_format import GADGETS
from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime
from support.other_user import OtherUser
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget
from support.waiting import SLOWNESS, deadline, wait_for

from ig_py.containers.admission import DECIDE_SECONDS

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "ringbuf", "tracepoint", "clang", "busybox", "runc"),
    pytest.mark.timeout(300),
]

OWN = f"ig-py-{os.getpid()}"
WEB = f"{OWN}-web"
LOSS = 3
"""Exit code of ``--fail-on-loss``."""
MANY = 200 if SLOWNESS == 1 else 60
"""Namespaces of strangers."""
SLOTS = 512
"""GADGET_LOSS_SLOTS of build/include/gadget/loss_table.h."""

CHURN = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
print("begins", flush=True)
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        libc.unshare(0x10020000)  # CLONE_NEWUSER | CLONE_NEWNS
        os.execv("/bin/true", ["true"])
    os.wait()
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.fixture(scope="module")
def two_buffers(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image"), GADGETS / "two_buffers"))


class Bundle:
    """A runc container whose shell executes /bin/true some times."""

    def __init__(self, directory: Path, name: str, times: int, *, waits: bool = False) -> None:
        wait = "read x; " if waits else ""
        script = f"{wait}i=0; while [ $i -lt {times} ]; do /bin/true; i=$((i+1)); done"
        self.path = make_bundle(directory / name, "/bin/sh", "-c", script)
        self.runtime = Runtime("runc", str(directory / name / "state"))
        self.name = name
        self.executions = times + 1
        """With that of the shell."""

    def argv(self) -> list[str]:
        return self.runtime.argv("run", "--bundle", str(self.path), self.name)

    def run(self) -> None:
        self.runtime.call("run", "--bundle", str(self.path), self.name)

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(
            self.argv(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as process:
            try:
                yield process
            finally:
                self.runtime.remove(self.name)

    def go(self, process: subprocess.Popen[bytes]) -> None:
        """Let it execute, and wait for its end."""
        process.communicate(b"go\n", timeout=deadline(60))
        assert process.returncode == 0


def tracing(directory: Path, image: str, *arguments: str) -> RunningGadget:
    flags = ("--verify-image=false", "-o", "json", "--fail-on-loss", "--buffer-size=16K")
    return RunningGadget(directory, image, *flags, *arguments)


@contextlib.contextmanager
def stopped(gadget: RunningGadget) -> Iterator[None]:
    gadget.process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{gadget.process.pid}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it stops")
    try:
        yield
    finally:
        gadget.process.send_signal(signal.SIGCONT)


def churn(user: OtherUser, count: int) -> None:
    """As many namespaces of a user, one after the other, each with one execution."""
    python = (os.path.realpath("/usr/bin/python3"), "-c", CHURN, str(count))
    with user.running(*python) as process:
        process.communicate(timeout=deadline(60))
        assert process.returncode == 0


def end(gadget: RunningGadget) -> int:
    """The exit code, of a run that has decided about all namespaces."""
    time.sleep(deadline(DECIDE_SECONDS + 1))
    return gadget.end()


def ready(gadget: RunningGadget, name: str = WEB) -> None:
    """The gadget runs, and the container's shell has been shown, alone."""
    wait_for(lambda: name in gadget.out, "the container is seen", 30)


class Counts:
    """The last line about a data source: exactly these counts, in these words."""

    def __init__(self, gadget: RunningGadget, datasource: str = "exec") -> None:
        lines = gadget.err.splitlines()
        self.line = next(line for line in reversed(lines) if line.startswith(f"{datasource}: "))
        found = re.fullmatch(
            r"\w+: (\d+) events emitted, (\d+) lost( \(of any container\))?"
            r"(?:, (\d+) lost of other namespaces)?"
            r"(?:, (\d+) lost of unidentified namespaces)?"
            r"(?:, \d+ containers or namespaces unseen)?",
            self.line,
        )
        assert found is not None, self.line
        emitted, lost, mixed, others, unidentified = found.groups(default="0")
        self.emitted, self.lost = int(emitted), int(lost)
        self.others, self.unidentified = int(others), int(unidentified)
        self.mixed = mixed != "0"


def test_losses_of_others_are_not_counted_as_the_containers(
    tmp_path: Path, image: str, user: OtherUser
) -> None:
    web = Bundle(tmp_path, WEB, 40, waits=True)
    with tracing(tmp_path / "run", image, "-c", WEB) as gadget:
        gadget.wait_running()
        with web.running() as container:
            ready(gadget)
            with stopped(gadget):
                web.go(container)
                churn(user, MANY)
            code = end(gadget)
    counts = Counts(gadget)
    assert counts.emitted + counts.lost == web.executions, counts.line
    assert counts.lost > 30, "the ring was not full: nothing was tested"
    assert counts.others > 10, counts.line
    assert counts.unidentified == 0, counts.line
    assert code == LOSS


@pytest.mark.parametrize(
    ("strangers", "selected"),
    [("namespaces", WEB), ("containers", WEB), ("containers", f"!{OWN}-other")],
    ids=["namespaces", "containers", "not-other"],
)
def test_losses_of_others_do_not_fail_a_run(
    tmp_path: Path, image: str, user: OtherUser, strangers: str, selected: str
) -> None:
    web = Bundle(tmp_path, WEB, 0, waits=True)
    other = Bundle(tmp_path, f"{OWN}-other", 30)
    with tracing(tmp_path / "run", image, "-c", selected) as gadget:
        gadget.wait_running()
        with web.running() as container:
            ready(gadget)
            with stopped(gadget):
                if strangers == "namespaces":
                    churn(user, MANY)
                else:
                    other.run()
            web.go(container)
            code = end(gadget)
    counts = Counts(gadget)
    assert [name for name, _ in gadget.executions()].count(WEB) == web.executions
    assert counts.others > 10, "the ring was not full: nothing was tested"
    if selected == WEB:  # else containers that others run on this machine are selected, too
        assert (counts.emitted, counts.lost) == (web.executions, 0), counts.line
        assert counts.unidentified == 0, counts.line
        assert code == 0


def test_the_account_is_exact_while_others_flood_a_running_tracer(
    tmp_path: Path, image: str, user: OtherUser
) -> None:
    """Decisions are made while events of the namespaces are under way."""
    web = Bundle(tmp_path, WEB, 10 * MANY // 2, waits=True)
    python = (os.path.realpath("/usr/bin/python3"), "-c", CHURN, "1000000")
    with tracing(tmp_path / "run", image, "-c", WEB) as gadget:
        gadget.wait_running()
        with web.running() as container:
            ready(gadget)
            with user.running(*python) as first, user.running(*python) as second:
                for process in (first, second):
                    assert process.stdout is not None and process.stdout.readline()
                assert container.stdin is not None
                container.stdin.write(b"go\n")
                container.stdin.flush()
                with stopped(gadget):
                    time.sleep(deadline(0.3))
                container.communicate(timeout=deadline(60))
            code = end(gadget)
    counts = Counts(gadget)
    assert counts.emitted + counts.lost == web.executions, counts.line
    assert counts.lost > 0, "the ring was not full: nothing was tested"
    # On an emulated processor, both loops make a namespace or two in that time.
    assert counts.others > 10 or SLOWNESS != 1, "nothing was tested"
    assert code == LOSS


def test_each_data_source_has_counts_of_its_own(
    tmp_path: Path, two_buffers: str, user: OtherUser
) -> None:
    web = Bundle(tmp_path, WEB, 40, waits=True)
    with tracing(tmp_path / "run", two_buffers, "-c", WEB) as gadget:
        gadget.wait_running()
        with web.running() as container:
            ready(gadget)
            with stopped(gadget):
                web.go(container)
                churn(user, 60)
            code = end(gadget)
    large, small = Counts(gadget, "large"), Counts(gadget, "small")
    assert (small.emitted, small.lost) == (web.executions, 0), small.line
    assert (small.others, small.unidentified) == (0, 0), small.line
    assert large.emitted + large.lost == web.executions, large.line
    assert large.lost > 30 and large.others > 10, large.line
    assert large.unidentified == 0, large.line
    assert code == LOSS


def test_losses_before_it_was_known_to_be_selected_are_its_own(
    tmp_path: Path, image: str, user: OtherUser
) -> None:
    web = Bundle(tmp_path, WEB, 20)
    with tracing(tmp_path / "run", image, "-c", WEB) as gadget:
        gadget.wait_running()
        with stopped(gadget):
            churn(user, 20)
            web.run()
        code = end(gadget)
    counts = Counts(gadget)
    assert counts.emitted + counts.lost == web.executions, gadget.err
    assert counts.lost >= web.executions - 1, "the ring was not full: nothing was tested"
    assert counts.others > 10, counts.line
    assert counts.unidentified == 0, counts.line
    assert code == LOSS


@pytest.mark.needs("native_processor")
def test_more_namespaces_than_slots_may_be_of_the_selection(
    tmp_path: Path, image: str, user: OtherUser
) -> None:
    web = Bundle(tmp_path, WEB, 0, waits=True)
    with tracing(tmp_path / "run", image, "-c", WEB) as gadget:
        gadget.wait_running()
        with web.running() as container:
            ready(gadget)
            with stopped(gadget):
                churn(user, 2 * SLOTS)
            web.go(container)
            code = end(gadget)
    counts = Counts(gadget)
    assert (counts.emitted, counts.lost) == (web.executions, 0), counts.line
    assert 10 < counts.others <= SLOTS, counts.line
    assert counts.unidentified > 10, counts.line
    assert code == LOSS, "they may be of the container"


def test_with_the_host_all_losses_are_of_what_is_traced(tmp_path: Path, image: str) -> None:
    other = Bundle(tmp_path, f"{OWN}-other", 30)
    with tracing(tmp_path / "run", image, "--host") as gadget:
        gadget.wait_running()
        with stopped(gadget):
            other.run()
        code = end(gadget)
    counts = Counts(gadget)
    assert counts.lost > 10 and (counts.others, counts.unidentified) == (0, 0), counts.line
    assert code == LOSS


def test_an_object_without_the_table_says_of_any_container(tmp_path: Path) -> None:
    """As objects do that other tools have built."""
    source = tmp_path / "source"
    source.mkdir()
    root = Path(__file__).parents[2]
    program = (root / "program.bpf.c").read_text()
    (source / "program.bpf.c").write_text(f"#define GADGET_NO_BUDGET\n{program}")
    (source / "gadget.yaml").write_text((root / "gadget.yaml").read_text())
    other = Bundle(tmp_path, f"{OWN}-other", 30)
    with tracing(tmp_path / "run", str(image_tar(tmp_path, source)), "-c", WEB) as gadget:
        gadget.wait_running()
        with stopped(gadget):
            other.run()
        code = end(gadget)
    counts = Counts(gadget)
    assert counts.mixed and counts.lost > 10 and counts.emitted == 0, counts.line
    assert (counts.others, counts.unidentified) == (0, 0), counts.line
    assert code == LOSS


def test_while_a_run_goes_on_losses_are_known_soon(
    tmp_path: Path, image: str, user: OtherUser
) -> None:
    """What is lost of a namespace that is undecided is reported, and never as the container's."""
    with tracing(tmp_path / "run", image, "-c", WEB) as gadget:
        gadget.wait_running()
        with stopped(gadget):
            churn(user, 60)
        assert end(gadget) == 0, gadget.err
    counts = Counts(gadget)
    assert (counts.lost, counts.unidentified) == (0, 0), counts.line
    assert counts.others > 10
    records = [json.loads(line) for line in gadget.err.splitlines() if line.startswith("{")]
    assert all(record["lost"] == 0 for record in records)
    assert all(record["others"] + record["unidentified"] > 10 for record in records)
