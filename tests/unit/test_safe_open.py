"""Files that other users can name: only a regular file of the right owner is read."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ig_py.host import openat2, safe_open
from ig_py.host.openat2 import Resolve
from ig_py.host.safe_open import (
    FileRefused,
    Links,
    open_beneath,
    open_directory_beneath,
    read_argument,
    read_beneath,
)

MOST = 1000


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test on a kernel with openat2 and on one without."""
    if request.param == "walk":

        def missing(*_: object) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(openat2, "_openat2", missing)
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    place.mkdir()
    (tmp_path / "secret").write_text("secret")
    (place / "file").write_text("content")
    return place


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """No test leaves a descriptor; those of other tests' garbage may go meanwhile."""
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


def refusal(root: Path, name: str, links: Links = Links.REFUSED, **conditions: object) -> str:
    with pytest.raises(FileRefused) as caught:
        read_beneath(root, name, most=MOST, links=links, **conditions)  # type: ignore[arg-type]
    assert caught.value.reason in str(caught.value)
    return caught.value.refusal


def test_a_file_by_path_and_by_descriptor(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/c").write_bytes(b"x" * MOST)
    assert read_beneath(root, "a/b/c", most=MOST) == b"x" * MOST
    fd = os.open(root, os.O_PATH)
    try:
        assert read_beneath(fd, "file", most=7, owners={os.geteuid()}) == b"content"
        assert read_beneath(fd, "./a//../file", most=7, one_mount=False) == b"content"
    finally:
        os.close(fd)


def test_absent(root: Path) -> None:
    assert read_beneath(root, "none", most=MOST) is None
    assert read_beneath(root, "file/none", most=MOST) is None
    assert read_beneath(root / "none", "file", most=MOST) is None
    assert open_beneath(root, "none", one_mount=False) is None
    assert open_directory_beneath(root, "none") is None


def test_a_fifo_is_neither_waited_for_nor_opened(root: Path) -> None:
    os.mkfifo(root / "fifo")
    assert refusal(root, "fifo") == "kind"
    # A writer would see a reader, had it been opened for reading even for a moment.
    with pytest.raises(OSError, match="No such device or address"):
        os.open(root / "fifo", os.O_WRONLY | os.O_NONBLOCK)


def test_socket_directory_and_device(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
        assert refusal(root, "s") == "kind"
    (root / "directory").mkdir()
    assert refusal(root, "directory") == "kind"
    assert refusal(Path("/dev"), "zero") == "kind"
    assert refusal(Path("/dev"), "tty") == "kind"
    with pytest.raises(FileRefused, match="it is a regular file, not a directory"):
        open_directory_beneath(root, "file")


@pytest.mark.parametrize("links", Links)
@pytest.mark.parametrize("one_mount", [True, False])
@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "/dev/zero", "/proc/self/root"])
def test_no_link_leads_out(root: Path, links: Links, one_mount: bool, target: str) -> None:
    (root / "link").symlink_to(target)
    (root / "out").symlink_to(Path(target).parent)
    for path in ("link", f"out/{Path(target).name}", target):
        try:
            found = read_beneath(root, path, most=MOST, links=links, one_mount=one_mount)
        except FileRefused as error:
            assert error.refusal == "path"
            assert links is not Links.IN_ROOT
        else:
            assert found is None
            assert links is Links.IN_ROOT


def test_links_inside(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a/relative").symlink_to("../file")
    (root / "absolute").symlink_to("/a/relative")
    (root / "directory").symlink_to("a")
    for path in ("a/relative", "directory/relative"):
        assert refusal(root, path) == "path"
        assert read_beneath(root, path, most=MOST, links=Links.BENEATH) == b"content"
        assert read_beneath(root, path, most=MOST, links=Links.IN_ROOT) == b"content"
    assert refusal(root, "absolute", Links.BENEATH) == "path"
    assert read_beneath(root, "absolute", most=MOST, links=Links.IN_ROOT) == b"content"
    assert read_beneath(root, "/../../absolute", most=MOST, links=Links.IN_ROOT) == b"content"


def test_links_in_a_circle(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    assert refusal(root, "a", Links.IN_ROOT) == "path"
    assert refusal(root, "a", Links.BENEATH) == "path"


def test_magic_links(root: Path, kernel: str) -> None:
    """/proc/self/fd/N would lead wherever the descriptor is, also out of the root.

    Without openat2 the text of the link counts, and that is not there below the root.
    """
    fd = os.open(root.parent / "secret", os.O_RDONLY)
    try:
        for links in Links:
            if links is Links.IN_ROOT and kernel == "walk":
                assert read_beneath("/proc", f"self/fd/{fd}", most=MOST, links=links) is None
            else:
                assert refusal(Path("/proc"), f"self/fd/{fd}", links) == "path"
        for links in (Links.REFUSED, Links.BENEATH):
            assert refusal(Path("/proc"), "self/root/etc/passwd", links) == "path"
    finally:
        os.close(fd)


def test_owner(root: Path) -> None:
    me = os.geteuid()
    assert read_beneath(root, "file", most=MOST, owners={me}) == b"content"
    assert refusal(root, "file", owners={me + 1}) == "owner"
    assert refusal(root, "file", owners=()) == "owner"
    (root / "file").chmod(0o646)
    assert refusal(root, "file", owners={me}) == "owner"
    assert read_beneath(root, "file", most=MOST) == b"content"


def test_hard_link_to_a_file_of_somebody_else(root: Path) -> None:
    me = os.geteuid()
    (root / "open").mkdir()
    (root / "open/second").hardlink_to(root.parent / "secret")
    for mode in (0o777, 0o1777, 0o775):
        (root / "open").chmod(mode)
        assert refusal(root, "open/second", owners={me + 1}) == "owner"
        assert refusal(root, "open/second", owners={me}) == "owner"


@pytest.mark.parametrize("path", ["own/file", "/own/file", "file"])
def test_a_second_name_elsewhere_makes_no_file_uncounted(root: Path, path: str) -> None:
    """Any user can give root's file one where fs.protected_hardlinks is 0."""
    me = os.geteuid()
    (root / "own").mkdir(mode=0o711)
    (root / "own/file").write_bytes(b"content")
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    (elsewhere / "x").hardlink_to(root / path.lstrip("/"))
    links = Links.IN_ROOT if path.startswith("/") else Links.REFUSED
    assert read_beneath(root, path, most=MOST, owners={me}, links=links) == b"content"
    assert refusal(elsewhere, "x", owners={me + 1}) == "owner"


def test_owner_of_a_directory(root: Path) -> None:
    me = os.geteuid()
    (root / "d").mkdir()
    fd = open_directory_beneath(root, "d", owners={me})
    assert fd is not None
    assert os.listdir(fd) == []  # noqa: PTH208
    os.close(fd)
    (root / "d").chmod(0o777)
    with pytest.raises(FileRefused, match="all users may write it"):
        open_directory_beneath(root, "d", owners={me})
    with pytest.raises(FileRefused, match="belongs to user"):
        open_directory_beneath(root, "d", owners={me + 1})


def test_size_is_counted_and_not_believed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "large").write_bytes(b"x" * (MOST + 1))
    assert refusal(root, "large") == "size"
    os.truncate(root / "file", 1 << 40)
    assert refusal(root, "file") == "size"
    assert Path("/proc/self/status").stat().st_size == 0
    pid = str(os.getpid())
    found = read_beneath(Path("/proc", pid), "status", most=100_000)
    assert found is not None
    assert found.startswith(b"Name:")


def test_a_file_that_grows_while_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.read

    def grow(fd: int, size: int) -> bytes:
        with (root / "file").open("ab") as file:
            file.write(b"x" * size)
        return read(fd, min(size, 10))

    monkeypatch.setattr(safe_open.os, "read", grow)
    assert refusal(root, "file") == "size"


def test_replaced_between_look_and_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at is read, not what has its name by then."""
    fstat = os.fstat
    swapped = []

    def swap(fd: int) -> os.stat_result:
        facts = fstat(fd)
        if not swapped:
            swapped.append((root / "file").rename(root / "old"))
            (root / "file").symlink_to(root.parent / "secret")
        return facts

    monkeypatch.setattr(safe_open.os, "fstat", swap)
    assert read_beneath(root, "file", most=MOST) == b"content"
    assert swapped
    assert refusal(root, "file") == "path"


def test_renames_that_do_not_stop(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def raced(*_: object) -> int:
        calls.append(1)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(openat2, "_openat2", raced)
    assert refusal(root, "file") == "slow"
    assert len(calls) == openat2.MAX_RACES


def test_a_lease_is_not_waited_for(root: Path) -> None:
    """The owner of a file can make open(2) wait 45 s (/proc/sys/fs/lease-break-time)."""
    script = (
        "import fcntl, os, signal, sys; signal.signal(signal.SIGIO, signal.SIG_IGN);"
        "fd = os.open(sys.argv[1], os.O_RDWR); fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", script, str(root / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        assert refusal(root, "file") == "slow"
        holder.stdin.close()


def test_names_that_are_none(root: Path) -> None:
    assert refusal(root, "a\0b") == "error"
    assert refusal(root, "x" * 5000) == "error"
    assert read_beneath(root, "", most=MOST) is None
    assert refusal(root, ".") == "kind"
    assert refusal(root, "..") == "path"
    assert read_beneath(root, "file/../../secret", most=MOST) is None
    (root / "d").mkdir()
    assert refusal(root, "d/../../secret") == "path"


def test_a_file_of_the_kernel_below_a_root_that_crosses_mounts() -> None:
    """Reading /proc/kmsg or trace_pipe takes messages away from other readers."""
    for path in ("/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"):
        if os.path.exists(path):  # noqa: PTH110
            assert refusal(Path("/"), path, Links.IN_ROOT, one_mount=False) == "file system"
            assert refusal(Path("/"), path, Links.IN_ROOT, one_mount=True) == "path"


def test_no_answer_in_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    entered = threading.Semaphore(0)
    real = os.open

    def hang(path: str, flags: int, **where: int) -> int:
        if threading.current_thread() is not threading.main_thread():
            entered.release()
            released.wait(30)
        return real(path, flags, **where)

    monkeypatch.setattr(safe_open.os, "open", hang)
    other = {os.geteuid() + 7}
    threads = set(threading.enumerate())
    for _ in range(safe_open.MAX_STUCK):
        with pytest.raises(FileRefused, match="did not answer in"):
            open_beneath(root, "file", owners=other, one_mount=False, deadline_s=0.01)
    with pytest.raises(FileRefused, match="earlier files of the same owners"):
        open_beneath(root, "file", owners=other, one_mount=False, deadline_s=0.01)
    for _ in range(safe_open.MAX_STUCK):
        assert entered.acquire(timeout=30)
    released.set()
    # Others are read meanwhile, and theirs again once their file system answers.
    for thread in set(threading.enumerate()) - threads:
        thread.join(30)
    assert read_beneath(root, "file", most=MOST, one_mount=False) == b"content"
    with pytest.raises(FileRefused, match="belongs to user"):
        open_beneath(root, "file", owners=other, one_mount=False)


def test_a_descriptor_that_comes_too_late_is_closed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    real = openat2.open_path

    def hang(directory: int, path: str, resolve: Resolve) -> int:
        released.wait(30)
        return real(directory, path, resolve)

    monkeypatch.setattr(safe_open, "open_path", hang)
    threads = set(threading.enumerate())
    with pytest.raises(FileRefused, match="did not answer"):
        open_beneath(root, "file", one_mount=False, deadline_s=0.01)
    released.set()
    for thread in set(threading.enumerate()) - threads:
        thread.join(30)
    # The fixture counts descriptors.


def test_flags_of_the_open(root: Path) -> None:
    fd = open_beneath(root, "file")
    assert fd is not None
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    os.close(fd)
    assert flags & os.O_NONBLOCK
    assert flags & os.O_ACCMODE == os.O_RDONLY


def test_an_argument(root: Path) -> None:
    (root / "link").symlink_to("../secret")
    assert read_argument(root / "link", most=MOST) == b"secret"
    assert read_argument("/dev/null", most=MOST) == b""
    end, start = os.pipe()
    os.write(start, b"piped")
    os.close(start)
    assert read_argument(f"/proc/self/fd/{end}", most=MOST) == b"piped"
    os.close(end)
    for path, reason in (
        (root / "none", "No such file or directory"),
        (root, "Is a directory"),
        ("/dev/zero", "it is larger than 1000 bytes"),
        ("a\0b", "embedded null byte"),
    ):
        with pytest.raises(FileRefused) as caught:
            read_argument(path, most=MOST)
        assert caught.value.reason == reason


def test_opening_makes_no_garbage(tmp_path: Path) -> None:
    """Classes of ctypes, of which every library and array makes one, are freed by the garbage
    collector only: a process that opens files for each container would keep thousands."""
    (tmp_path / "file").write_text("x")

    def opened() -> None:
        assert read_beneath(tmp_path, "file", most=9, one_mount=False, deadline_s=None) == b"x"

    opened()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            opened()
        assert gc.collect() < 50
    finally:
        gc.enable()
