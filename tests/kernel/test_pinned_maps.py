"""Maps that objects share by their names, also where no BPF file system is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import mounts
from support.gadget_build import compile_for_here
from support.gadget_format import discover
from support.gadget_runner import run_test

from ig_py._core import Object
from ig_py.errors import KernelError
from ig_py.gadget.btf import Btf
from ig_py.gadget.elf import Elf
from ig_py.gadget.maps import read_maps
from ig_py.host import bpffs
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


@pytest.mark.needs("btf", "tracepoint", "ringbuf")
def test_a_gadget_shares_its_map_with_later_gadgets(tmp_path: Path) -> None:
    """Where a bpffs is mounted its map stays pinned; elsewhere it has one of its own."""
    [test] = [test for test in discover() if test.gadget == "pinned_map"]
    for there, pinned in ((mounts.bpffs_mounted, True), (mounts.bpffs_unmounted, False)):
        with there():
            run_test(test, tmp_path)
            assert PIN.exists() == pinned


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
