"""What cannot be read of the host, for want of descriptors or memory, is not taken as absent."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_proc import FakeHost
from support.waiting import deadline

from ig_py.containers.engines.config import _names
from ig_py.containers.identify import identify
from ig_py.containers.inits import container_of_init, init_of_cgroup
from ig_py.containers.oci_bundle import BundleReader
from ig_py.containers.runtime_paths import runtime_paths
from ig_py.containers.runtime_state import read_state
from ig_py.containers.speakers import arguments
from ig_py.errors import ContainerError
from ig_py.host import files
from ig_py.host.cgroup_paths import CgroupPaths
from ig_py.host.credentials import credentials
from ig_py.host.files import HostReadError
from ig_py.host.mounted_root import root_mount
from ig_py.host.proc import HostView, ProcessGone, open_netns
from ig_py.operators._bpf_holders import Holders
from ig_py.operators._processes import ProcessReader
from ig_py.operators._throttling import Hierarchy, ThrottleReader
from ig_py.toolchain.container import _Owner

NUMBERS = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO]


def failing(number: int) -> Callable[..., Any]:
    def fail(*_arguments: Any, **_more: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


LOOKS: dict[str, tuple[str, Callable[[], object]]] = {
    "content of a file, opened": ("open", lambda: files.read_bytes("/proc/self/stat")),
    "content of a file, read": ("read", lambda: files.read_bytes("/proc/self/stat")),
    "existence": ("stat", lambda: files.is_there("/proc/self")),
    "all processes": ("listdir", lambda: HostView().pids()),
    "status": ("open", lambda: HostView().status(1)),
    "control groups": ("open", lambda: HostView().cgroups(1)),
    "start": ("stat", lambda: HostView().started_at(1)),
    "namespace": ("stat", lambda: HostView().namespace(1, "mnt")),
    "owner of a namespace": ("open", lambda: HostView().owner_of(1)),
    "network namespace": ("open", lambda: open_netns(HostView())),
    "credentials": ("open", lambda: credentials("/proc", 1)),
    "arguments": ("open", lambda: arguments(HostView(), 1)),
    "init of a control group": ("open", lambda: init_of_cgroup(HostView(), "/sys/fs/cgroup")),
    "container of an init": ("open", lambda: container_of_init(HostView(), os.getpid())),
    "container of a namespace": ("open", lambda: identify(HostView(), os.getpid(), 1, "x", "/")),
    "maker of a control group": ("stat", lambda: CgroupPaths("/sys/fs/cgroup").maker("/x")),
    "hierarchies": ("scandir", lambda: CgroupPaths("/proc/self/fd").maker("/x")),
    "root directory": ("open", lambda: root_mount("/proc/1")),
    "users": ("listdir", lambda: _names(Path("/run"))),
    "runtimes": ("stat", lambda: runtime_paths(HostView())),
    "holders of programs": ("listdir", lambda: Holders(HostView()).of({1})),
    "usage of processes": (
        "open",
        lambda: list(ProcessReader(HostView(), frozenset(), MACHINE).read()),
    ),
    "throttling": (
        "scandir",
        lambda: list(ThrottleReader(HostView(), Hierarchy("/sys/fs/cgroup", unified=True)).read()),
    ),
}
MACHINE: Any = object()


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("look", LOOKS)
def test_what_cannot_be_known_is_an_error(
    look: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, work = LOOKS[look]
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(number))
        with pytest.raises(HostReadError) as raised:
            work()
    assert raised.value.number == number
    assert os.strerror(number) in raised.value.message
    assert ("ulimit -n" in raised.value.remedy) == (number in (errno.EMFILE, errno.ENFILE))


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.__getitem__)
def test_a_process_that_cannot_be_held_has_not_ended(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", failing(number))
        with pytest.raises(HostReadError):
            HostView().open(os.getpid())
    monkeypatch.setattr(os, "pidfd_open", failing(errno.ESRCH))
    with pytest.raises(ProcessGone):
        HostView().open(os.getpid())


def test_absence_is_an_answer(tmp_path: Path) -> None:
    assert files.read_bytes(str(tmp_path / "none")) == b""
    assert not files.is_there(str(tmp_path / "none"))
    assert files.inode(str(tmp_path / "none/x")) is None


def test_no_rights_are_an_answer_only_where_the_caller_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "open", failing(errno.EACCES))
    assert files.read_bytes("/proc/1/auxv", denied=True) == b""
    with pytest.raises(HostReadError):
        files.read_bytes("/proc/1/stat")


@pytest.mark.parametrize(
    ("owners", "number", "known"),
    [
        ({0}, errno.EIO, False),
        ({0}, errno.EACCES, False),
        ({0}, errno.EMFILE, False),
        ({61_000}, errno.EIO, True),
        ({61_000}, errno.EACCES, True),
        ({61_000}, errno.EMFILE, False),
    ],
)
def test_errors_that_users_can_make_say_nothing_of_their_files(
    tmp_path: Path, owners: set[int], number: int, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/state.json").write_text(json.dumps({"init_process_pid": 1}))
    monkeypatch.setattr("ig_py.host.safe_open.open_path", failing(number))
    reader = BundleReader(HostView(str(tmp_path)))
    owner = None if owners == {0} else 61_000
    if number == errno.EACCES:
        # The root directory of a process may be out of reach (CAP_SYS_PTRACE).
        assert reader.of_host("/x", owner) == ""
    if known:
        assert read_state(str(tmp_path), "x", owners) is None
        assert reader.of_host("/x", owner) == ""
        return
    with pytest.raises(HostReadError):
        read_state(str(tmp_path), "x", owners)
    if number != errno.EACCES:
        with pytest.raises(HostReadError):
            reader.of_host("/x", owner)


def test_a_failure_is_told_once_and_each_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    failures = files.ReadFailures()
    for _ in range(3):
        for number in (errno.EMFILE, errno.EIO):
            failures.add(HostReadError("/proc/1/stat", OSError(number, os.strerror(number))))
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert failures.count == 6
    assert [r.getMessage().count("may be missed") for r in told] == [1, 1]
    assert "ulimit -n" in told[0].getMessage()


def test_usage_is_compared_with_the_last_reading_that_was_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost(tmp_path)
    host.process(2)
    reader = ProcessReader(host.view, frozenset(), MACHINE_OF_TEST)
    assert len(list(reader.read())) == 2
    before = dict(reader._before)
    really = os.open

    def fail_for_the_second(path: str, *arguments: Any, **more: Any) -> int:
        if str(path).endswith("/2/stat"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return really(path, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail_for_the_second)
        with pytest.raises(HostReadError):
            list(reader.read())
    assert reader._before == before


class _Machine:
    boot, ticks, cpus, memory, page = 0, 100, 1, 1 << 30, 4096


MACHINE_OF_TEST: Any = _Machine()


def test_a_build_container_is_not_removed_while_its_process_cannot_be_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = _Owner(_Owner.this().boot_id, os.getuid(), _Owner.this().pidns, 1 << 22, 5)
    assert gone.ended()
    here = _Owner.this()
    monkeypatch.setattr(_Owner, "this", classmethod(lambda _cls: here))
    monkeypatch.setattr(os, "open", failing(errno.EMFILE))
    assert not gone.ended()


# With a limit that is really used up, in a process of its own.
USED_UP = """
import json, os, resource, sys
from ig_py.containers.runtime_state import read_state
from ig_py.containers.inits import container_of_init
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView
from ig_py.containers.engines.config import _names
from pathlib import Path

view = HostView()
looks = {
    "pids": lambda: view.pids(),
    "status": lambda: view.status(1),
    "owner": lambda: view.owner_of(1),
    "open": lambda: view.open(os.getpid()).close(),
    "init": lambda: container_of_init(view, os.getpid()),
    "state": lambda: read_state("/proc", "self", {0, os.geteuid()}),
    "names": lambda: _names(Path("/run")),
}
for look in looks.values():
    try: look()
    except HostReadError as error: sys.exit(f"before: {error}")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True: os.open("/dev/null", os.O_RDONLY)
except OSError: pass
found = {}
for name, look in looks.items():
    try: found[name] = repr(look())
    except HostReadError as error: found[name] = "Too many open files" in str(error)
sys.stdout.write(json.dumps(found))
"""


def test_a_limit_that_is_used_up() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", USED_UP],
        capture_output=True,
        text=True,
        timeout=deadline(60),
        close_fds=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == dict.fromkeys(found, True)
    assert issubclass(HostReadError, ContainerError)
