"""Maps that objects share by their names, also where no BPF file system is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.gadget_build import compile_for_here

from ig_py._core import Object
from ig_py.errors import KernelError
from ig_py.gadget.btf import Btf
from ig_py.gadget.elf import Elf
from ig_py.gadget.maps import read_maps
from ig_py.host import bpffs
from ig_py.host.private_mount import is_mounted, mount_missing, with_mount

pytestmark = pytest.mark.needs("root", "bpf", "clang")


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_for_here("core/pinned.bpf.c", tmp_path_factory.mktemp("pinned"))


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def loaded_maps(elf: bytes) -> set[int]:
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


def test_the_object_says_which(elf: bytes) -> None:
    file = Elf(elf, "pinned")
    section = file.section(".BTF")
    assert section is not None
    found = read_maps(Btf(file.data(section)))
    assert {name: entry.spec.pinned for name, entry in found.items()} == {
        "ig_py_test_pinned": True,
        "of_each": False,
    }


def test_two_objects_share_it_in_a_mount_of_their_own(elf: bytes) -> None:
    before = mounts()
    assert len(with_mount("bpf", bpffs.BPFFS, lambda: loaded_maps(elf), "pinning")) == 1
    assert mounts() == before
    assert not (bpffs.BPFFS / "ig_py_test_pinned").exists()


def test_what_is_mounted_is_used(elf: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def inside() -> tuple[bool, int]:
        shared = bpffs.with_bpffs(lambda: len(loaded_maps(elf)))
        return (bpffs.BPFFS / "ig_py_test_pinned").exists(), shared

    assert with_mount("bpf", bpffs.BPFFS, inside, "pinning") == (True, 1)
    monkeypatch.setattr(bpffs, "mounted", lambda: False)
    assert with_mount("bpf", bpffs.BPFFS, inside, "pinning") == (False, 1)


def test_only_a_bpf_file_system_is_one() -> None:
    assert with_mount("bpf", bpffs.BPFFS, bpffs.mounted, "pinning")
    assert not with_mount("tmpfs", bpffs.BPFFS, bpffs.mounted, "pinning")


def test_what_is_missing_is_mounted_to_stay(tmp_path: Path) -> None:
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


def test_failures_come_back() -> None:
    with pytest.raises(KernelError, match=r"pinning: mounting nothing-like-it: .*"):
        with_mount("nothing-like-it", bpffs.BPFFS, lambda: None, "pinning")
    with pytest.raises(ZeroDivisionError):
        with_mount("bpf", bpffs.BPFFS, lambda: 1 // 0, "pinning")
