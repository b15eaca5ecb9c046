"""Where vmlinux.h comes from, with an apt that only pretends."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from ig_py.errors import BuildError
from ig_py.toolchain import debian, kernel_btf, vmlinux

TARGETS = """\
Debian http://mirror.example/debian/ bookworm
Debian http://mirror.example/debian/ bookworm-updates
Debian http://mirror.example/security/ bookworm-security
Other http://other.example/ stable
"""
SHOW = """\
Package: linux-image-cloud-arm64
Version: 6.1.1
Depends: linux-image-6.1.0-50-cloud-arm64 (= 6.1.176-1)

Package: linux-image-cloud-arm64
Version: 6.12
Depends: linux-image-6.12.9+deb12-cloud-arm64 (= 6.12.9)
"""


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of tools that answer from files, and log their arguments."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tools / "targets").write_text(TARGETS)
    (tools / "show").write_text(SHOW)
    log = tools / "log"
    script(
        tools / "apt-get",
        f'echo "$0 $@" >>{log}\n'
        f'case "$*" in\n'
        f"indextargets*) cat {tools}/targets;;\n"
        f"*update*) cp $(echo \"$*\" | sed 's/.*Dir::Etc::sourcelist=\\([^ ]*\\).*/\\1/') "
        f"{tools}/sources; exit $(cat {tools}/update-status 2>/dev/null || echo 0);;\n"
        f"*download*) touch kernel.deb;;\nesac\n",
    )
    script(tools / "apt-cache", f'echo "$0 $@" >>{log}\ncat {tools}/show\n')
    script(tools / "dpkg-deb", f"cat {tools}/tar\n")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in (
            ("./boot/config-6.12", b"nothing"),
            ("./boot/vmlinuz-6.12.9", b"the kernel"),
            ("./lib/modules/x.ko", b"later"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (tools / "tar").write_bytes(archive.getvalue())
    return tools


def test_the_newest_kernel_of_the_systems_archive(apt: Path) -> None:
    told: list[str] = []
    image, package = debian.kernel_image("arm64", told.append)
    assert (image, package) == (b"the kernel", "linux-image-6.12.9+deb12-cloud-arm64")
    assert told == [f"Fetching {package} for the types of arm64 kernels"]
    sources = (apt / "sources").read_text().splitlines()
    assert [line.rsplit(" ", 3)[1:] for line in sources] == [
        ["http://mirror.example/debian/", "bookworm", "main"],
        ["http://mirror.example/debian/", "bookworm-backports", "main"],
    ]
    assert all("arch=arm64" in line for line in sources)


def test_the_systems_apt_stays_as_it_is(apt: Path) -> None:
    debian.kernel_image("arm64", lambda _: None)
    calls = (apt / "log").read_text().splitlines()
    changing = [c for c in calls if "indextargets" not in c]
    assert len(changing) == 3
    for call in changing:
        for option in ("Dir::State=", "Dir::Cache=", "Dir::Etc::sourcelist=", "Dir::State::lists="):
            assert f"{option}/tmp" in call or f"{option}/var/tmp" in call
        assert "APT::Architecture=arm64" in call
    private = changing[0].split("Dir::State=")[1].split()[0]
    assert not Path(private).exists()


def test_no_debian_archive_configured(apt: Path) -> None:
    (apt / "targets").write_text("Other http://other.example/ stable\n")
    debian.kernel_image("arm64", lambda _: None)
    assert f"{debian.DEFAULT_SUITE} main" in (apt / "sources").read_text()


def test_failures_name_the_way_out(apt: Path) -> None:
    (apt / "update-status").write_text("100")
    with pytest.raises(BuildError, match=r"fetching a kernel for arm64: updating.*--vmlinux-btf"):
        debian.kernel_image("arm64", lambda _: None)
    (apt / "update-status").unlink()
    (apt / "show").write_text("")
    with pytest.raises(BuildError, match="names no kernel"):
        debian.kernel_image("arm64", lambda _: None)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_a_broken_package(apt: Path, content: bytes) -> None:
    (apt / "tar").write_bytes(content)
    with pytest.raises(BuildError, match=r"unpacking kernel\.deb: "):
        debian.kernel_image("arm64", lambda _: None)


def test_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="apt-get is not installed"):
        debian.kernel_image("arm64", lambda _: None)


@pytest.fixture
def fake_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def render(kernels: Sequence[tuple[bytes, str]]) -> str:
        told = ", ".join(f"{source}: {btf.decode()}" for btf, source in kernels)
        return f"\n/* Types of {told}"

    monkeypatch.setattr(vmlinux, "render", render)
    monkeypatch.setattr(kernel_btf, "find_btf", lambda image, _source: image)
    monkeypatch.setattr(vmlinux, "host_arch", lambda: "amd64")
    monkeypatch.setattr("platform.release", lambda: "6.99")


@pytest.mark.usefixtures("fake_core")
def test_another_architecture_is_never_the_running_kernel(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_btf, "missing_names", lambda _: [])
    (tmp_path / "vmlinux").write_text("running")
    monkeypatch.setattr(kernel_btf, "SYSFS_BTF", tmp_path / "vmlinux")
    debian_kernel = "linux-image-6.12.9+deb12-cloud-arm64"
    arm = (vmlinux.include_dir("arm64") / "vmlinux.h").read_text()
    assert arm == f"\n/* Types of {debian_kernel} arm64: the kernel"
    amd = (vmlinux.include_dir("amd64") / "vmlinux.h").read_text()
    assert amd == (f"\n/* Types of {debian_kernel} amd64: the kernel, Linux 6.99 amd64: running")


@pytest.mark.usefixtures("fake_core")
def test_a_running_kernel_that_lacks_types(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_btf, "missing_names", lambda _: ["bpf_iter__tcp"])
    (tmp_path / "vmlinux").write_text("running")
    monkeypatch.setattr(kernel_btf, "SYSFS_BTF", tmp_path / "vmlinux")
    (apt / "update-status").write_text("100")
    told: list[str] = []
    second = (vmlinux.refresh("amd64", told.append) / "vmlinux.h").read_text()
    assert second == "\n/* Types of Linux 6.99 amd64: running"
    assert "lacks bpf_iter__tcp" in told[-1]


@pytest.mark.usefixtures("fake_core")
def test_a_header_is_kept(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vmlinux.include_dir("arm64")
    (apt / "update-status").write_text("100")
    assert (vmlinux.include_dir("arm64") / "vmlinux.h").is_file()
    with pytest.raises(BuildError):
        vmlinux.refresh("arm64", lambda _: None)
    assert (vmlinux.include_dir("arm64") / "vmlinux.h").is_file()


@pytest.mark.usefixtures("fake_core")
def test_a_header_of_an_earlier_version_is_made_anew(apt: Path, tmp_path: Path) -> None:
    old = tmp_path / "cache/ig-py/vmlinux/arm64/vmlinux.h"
    old.parent.mkdir(parents=True)
    old.write_text("/* linux-image */ types of one kernel")
    (apt / "update-status").write_text("100")
    told: list[str] = []
    assert vmlinux.include_dir("arm64", told.append) == old.parent
    assert "an earlier version" in told[-1] and old.read_text().startswith("/* linux-image")
    (apt / "update-status").unlink()
    assert vmlinux.include_dir("arm64") == old.parent
    assert old.read_text().endswith("arm64: the kernel")


def test_unknown_architecture() -> None:
    with pytest.raises(BuildError, match="unknown architecture 'riscv64': known are amd64, arm64"):
        vmlinux.include_dir("riscv64")


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bad = tmp_path / "bad"
    bad.write_bytes(b"nothing")
    assert vmlinux.main(["--arch", "arm64", "--vmlinux-btf", str(bad)]) == 1
    assert "the kernel bad: no BTF found in it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        vmlinux.main(["--vmlinux-btf", str(bad)])
    assert not list(tmp_path.glob("ig-py/vmlinux/*/vmlinux.h"))


@pytest.mark.needs("btf")
def test_the_header_of_this_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    raw = Path("/sys/kernel/btf/vmlinux").read_bytes()
    text = (vmlinux.generate("amd64", raw, "a */ b\n") / "vmlinux.h").read_text()
    assert text.startswith(
        "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n\n/* Types of a * / b */\n"
    )
    assert text.rstrip().endswith("#endif")
    assert text.count("preserve_access_index") == 1
    assert "\nstruct task_struct {\n" in text
    assert "\nenum bpf_func_id {\n" in text
