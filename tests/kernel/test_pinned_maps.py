"""Maps that objects share by their names, also where no BPF file system is mounted."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import mounts
from support.gadget_build import compile_for_here
from support.gadget_format import GadgetTest, discover
from support.gadget_runner import run_test

from ig_py._core import Object
from ig_py.errors import KernelError
from ig_py.gadget.btf import Btf
from ig_py.gadget.elf import Elf
from ig_py.gadget.maps import read_maps
from ig_py.host import bpffs, pins
from ig_py.host.pins import RECORDS, RunPins
from ig_py.host.private_mount import is_mounted, mount_missing, with_mount

pytestmark = pytest.mark.needs("root", "bpf", "clang")

PIN = mounts.BPFFS / "ig_py_test_pinned"


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_for_here("core/pinned.bpf.c", tmp_path_factory.mktemp("pinned"))


def loaded_maps(elf: bytes) -> set[int]:
    """Maps that two objects have in common."""
    with_both = []
    try:
        for _ in range(2):
            obj = Object(elf, "pinned")
            with_both.append(obj)
            obj.load()
        first, second = (set(obj.map_ids()) for obj in with_both)
        assert len(first) == len(second) == 2
        return first & second
    finally:
        for obj in with_both:
            obj.close()


def test_the_object_marks_pinned_maps(elf: bytes) -> None:
    file = Elf(elf, "pinned")
    section = file.section(".BTF")
    assert section is not None
    found = read_maps(Btf(file.data(section)))
    assert {name: entry.spec.pinned for name, entry in found.items()} == {
        "ig_py_test_pinned": True,
        "of_each": False,
    }


def test_two_objects_share_a_map_in_a_private_bpffs(elf: bytes) -> None:
    with mounts.bpffs_unmounted():
        before = mounts.below(mounts.BPFFS)
        assert len(bpffs.with_bpffs(lambda: loaded_maps(elf))) == 1
        assert mounts.below(mounts.BPFFS) == before
        assert not list(mounts.BPFFS.iterdir())


def test_a_mounted_bpffs_is_used(elf: bytes) -> None:
    with mounts.bpffs_mounted():
        assert len(bpffs.with_bpffs(lambda: loaded_maps(elf))) == 1
        assert PIN.exists()
        mounts.mount("tmpfs", mounts.BPFFS)
        assert len(bpffs.with_bpffs(lambda: loaded_maps(elf))) == 1
        assert not PIN.exists()


def pinned_gadget() -> GadgetTest:
    [test] = [test for test in discover() if test.gadget == "pinned_map"]
    return test


@pytest.mark.needs("btf", "tracepoint", "ringbuf")
def test_a_gadget_runs_with_and_without_a_file_system_for_it(tmp_path: Path) -> None:
    """Where a bpffs is mounted its map is pinned while it runs; elsewhere it has one of its own."""
    for there in (mounts.bpffs_mounted, mounts.bpffs_unmounted):
        with there():
            run_test(pinned_gadget(), tmp_path)
            assert not PIN.exists()


@pytest.mark.needs("btf", "tracepoint", "ringbuf")
def test_a_pin_that_was_there_stays(tmp_path: Path) -> None:
    own = compile_for_here("pinned_map/program.bpf.c", tmp_path)
    with mounts.bpffs_mounted():
        other = Object(own, "pinned")
        other.load()
        other.close()
        assert PIN.exists()
        run_test(pinned_gadget(), tmp_path)
        assert PIN.exists()


def loading(elf: bytes) -> tuple[RunPins, Object]:
    obj, run = Object(elf, "pinned"), RunPins([PIN.name])
    run.around(obj.load)
    return run, obj


def test_the_last_run_that_uses_a_pin_removes_it(elf: bytes) -> None:
    with mounts.bpffs_mounted():
        runs = [loading(elf) for _ in range(3)]
        shared = set.intersection(*(set(obj.map_ids()) for _, obj in runs))
        assert len(shared) == 1
        for run, obj in runs:
            assert PIN.exists()
            obj.close()
            run.release()
            run.release()
        assert not PIN.exists()
        assert list((mounts.BPFFS / RECORDS).iterdir()) == []


def test_a_load_that_fails_leaves_no_pin(elf: bytes) -> None:
    with mounts.bpffs_mounted():
        run = RunPins([PIN.name])

        def load() -> None:
            Object(elf, "pinned").load()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run.around(load)
        assert PIN.exists()
        run.release()
        assert not PIN.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from ig_py._core import Object
from ig_py.host.pins import RunPins
obj = Object(Path(sys.argv[1]).read_bytes(), "pinned")
RunPins(["ig_py_test_pinned"]).around(obj.load)
assert Path("/sys/fs/bpf/ig_py_test_pinned").exists()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_pinned_is_swept(tmp_path: Path, elf: bytes) -> None:
    file = tmp_path / "elf"
    file.write_bytes(elf)
    with mounts.bpffs_mounted():
        done = subprocess.run([sys.executable, "-P", "-c", KILLED, str(file)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert PIN.exists()
        pins.sweep()
        assert not PIN.exists()


def test_a_pin_of_another_program_with_the_same_name_stays(elf: bytes) -> None:
    with mounts.bpffs_mounted():
        run, obj = loading(elf)
        PIN.unlink()
        other = Object(elf, "pinned")
        other.load()
        run.release()
        assert PIN.exists()
        obj.close()
        other.close()


def test_records_that_another_user_can_change_are_not_used(elf: bytes) -> None:
    with mounts.bpffs_mounted():
        (mounts.BPFFS / RECORDS).mkdir()
        (mounts.BPFFS / RECORDS).chmod(0o777)
        run, obj = loading(elf)
        run.release()
        obj.close()
        # The pin is not known as ours: it stays, as anybody's.
        assert PIN.exists()


def test_only_a_bpf_file_system_is_one() -> None:
    assert with_mount("bpf", bpffs.BPFFS, bpffs.mounted, "pinning")
    assert not with_mount("tmpfs", bpffs.BPFFS, bpffs.mounted, "pinning")


def test_missing_file_systems_are_mounted_to_stay(tmp_path: Path) -> None:
    """In a mount namespace of this test's own."""
    places = [(kind, tmp_path / kind) for kind in ("bpf", "debugfs", "tracefs")]
    for _, place in places:
        place.mkdir()

    def twice() -> tuple[list[str], list[str], list[bool], int]:
        first = mount_missing([*places, ("bpf", tmp_path / "none")])
        before = Path("/proc/thread-self/mounts").read_text().count(str(tmp_path))
        return first, mount_missing(places), [is_mounted(*place) for place in places], before

    first, second, mounted, count = with_mount("tmpfs", Path("/mnt"), twice, "trying")
    assert first == [f"{tmp_path}/none: mounting bpf: No such file or directory"]
    assert (second, mounted, count) == ([], [True] * 3, 3)
    assert not any(is_mounted(*place) for place in places)


def test_failures_in_the_mount_thread_are_raised() -> None:
    with pytest.raises(KernelError, match=r"pinning: mounting nothing-like-it: .*"):
        with_mount("nothing-like-it", bpffs.BPFFS, lambda: None, "pinning")
    with pytest.raises(ZeroDivisionError):
        with_mount("bpf", bpffs.BPFFS, lambda: 1 // 0, "pinning")
