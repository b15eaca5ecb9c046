"""Wasm builds, btfgen archives and the compiler's arguments, without compilers."""

from __future__ import annotations

import io
import lzma
import stat
import tarfile
from pathlib import Path

import pytest

from ig_py.errors import BuildError
from ig_py.toolchain import btfgen, wasm
from ig_py.toolchain.compile import Includes, clang_argv
from ig_py.toolchain.container import object_argvs


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "tools"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


def quiet(_: str) -> None:
    pass


def test_compiler_arguments() -> None:
    includes = Includes(Path("/c/api"), Path("/c/vm"), Path("/usr/include/x86_64-linux-gnu"))
    argv = clang_argv("clang", "program.bpf.c", "arm64", "/o/arm64.bpf.o", includes, Path("/g"))
    assert argv[:7] == ["clang", "-target", "bpf", "-mcpu=v3", "-Wall", "-g", "-O2"]
    assert argv[argv.index("-D") + 1] == "__TARGET_ARCH_arm64"
    assert argv[argv.index("-c") + 1] == "program.bpf.c"
    assert [argv[i + 1] for i, a in enumerate(argv) if a == "-I"] == [
        "/usr/include/x86_64-linux-gnu",
        "/c/api",
        "/c/vm",
    ]
    maps = {a for a in argv if a.startswith("-ffile-prefix-map=")}
    assert maps == {
        "-ffile-prefix-map=/c/api=/usr/include",
        "-ffile-prefix-map=/c/vm=/usr/include/gadget/arm64",
        "-ffile-prefix-map=/g=.",
    }
    bare = clang_argv("clang", "p.c", "amd64", "o", Includes(Path("/a"), None, None), Path("/g"))
    assert [bare[i + 1] for i, a in enumerate(bare) if a == "-I"] == ["/a"]
    assert "__TARGET_ARCH_x86" in bare


def test_arguments_inside_a_container() -> None:
    compile_, strip = object_argvs("src/p.c", "amd64")
    assert compile_[:7] == ["clang", "-target", "bpf", "-mcpu=v3", "-Wall", "-g", "-O2"]
    assert compile_[compile_.index("-c") + 1] == "src/p.c"
    assert compile_[-2:] == ["-o", "/out/amd64.bpf.o"]
    assert "/usr/include/gadget/amd64" in compile_
    assert strip == ["llvm-strip", "-g", "/out/amd64.bpf.o"]


def test_a_module_is_taken_as_it_is(tmp_path: Path) -> None:
    assert wasm.build_wasm(tmp_path, "m.wasm", tmp_path / "s", quiet) == tmp_path / "m.wasm"


def test_go(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "go").mkdir()
    script(
        tools / "go",
        'test "$GOOS $GOARCH $CGO_ENABLED" = "wasip1 wasm 0" || exit 9\n'
        f'echo "$*" >{tools}/args\n'
        'while [ "$1" != -o ]; do shift; done\necho module >"$2"\n',
    )
    built = wasm.build_wasm(tmp_path, "go/program.go", tools, quiet)
    assert built.read_text() == "module\n"
    assert (tools / "args").read_text().split() == [
        "build", "-C", str(tmp_path / "go"), "-o", str(built), "-buildmode=c-shared",
        "-ldflags", "-w", "-s", "program.go",
    ]  # fmt: skip


def test_rust(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "rust/src").mkdir(parents=True)
    (tmp_path / "rust/Cargo.toml").write_text('[package]\nname = "my-gadget"\n')
    script(
        tools / "cargo",
        f'echo "$*" >{tools}/args\n'
        'mkdir -p "$CARGO_TARGET_DIR/wasm32-wasip1/release"\n'
        'echo module >"$CARGO_TARGET_DIR/wasm32-wasip1/release/my-gadget.wasm"\n',
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    built = wasm.build_wasm(tmp_path, "rust/src/program.rs", scratch, quiet)
    assert built == scratch / "program.wasm"
    assert built.read_text() == "module\n"
    assert (tools / "args").read_text().split() == [
        "build", "--target", "wasm32-wasip1", "--release",
        "--manifest-path", str(tmp_path / "rust/Cargo.toml"),
    ]  # fmt: skip


def test_rust_that_leaves_nothing(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "g"\n')
    script(tools / "cargo", "exit 0\n")
    with pytest.raises(BuildError, match="cargo left no module: No such file"):
        wasm.build_wasm(tmp_path, "src/program.rs", tmp_path, quiet)


@pytest.mark.parametrize(
    "manifest",
    ["", "[package]\n", "not toml [", "[package]\nname = 1\n", '[package]\nname = "../x"\n'],
)
def test_a_manifest_without_a_name(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "Cargo.toml").write_text(manifest)
    with pytest.raises(BuildError, match="no package name"):
        wasm.cargo_package(tmp_path, "Cargo.toml")


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"Cargo\.toml not found"):
        wasm.cargo_package(tmp_path, wasm.cargo_manifest("src/program.rs"))


@pytest.mark.parametrize(("source", "tool"), [("a.go", "go"), ("src/a.rs", "cargo")])
def test_a_missing_toolchain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, tool: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=f"{tool} is not installed: install {tool}, use"):
        wasm.build_wasm(tmp_path, source, tmp_path, quiet)


def put_kernel(archive: Path, name: str, content: bytes, member: str = "k.btf") -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    path = archive / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(raw.getvalue()))


@pytest.fixture
def bpftool(tools: Path) -> None:
    script(tools / "bpftool", 'test "$1 $2" = "gen min_core_btf" || exit 9\ncat "$3" "$5" >"$4"\n')


@pytest.mark.usefixtures("bpftool")
def test_btfgen(tmp_path: Path) -> None:
    archive, scratch = tmp_path / "hub", tmp_path / "scratch"
    scratch.mkdir()
    put_kernel(archive, "ubuntu/20.04/x86_64/5.4.0-42-generic.btf.tar.xz", b"one ")
    put_kernel(archive, "debian/10/x86_64/4.19.0.btf.tar.xz", b"two ")
    put_kernel(archive, "debian/10/arm64/4.19.0.btf.tar.xz", b"three ")
    objects = {arch: tmp_path / f"{arch}.bpf.o" for arch in ("amd64", "arm64")}
    for arch, path in objects.items():
        path.write_text(arch)
    built = btfgen.build_btfgen(archive, objects, scratch, quiet)
    with tarfile.open(built["amd64"]) as tar:
        found = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    assert found == {
        "debian/10/x86_64/4.19.0.btf": b"two amd64",
        "ubuntu/20.04/x86_64/5.4.0-42-generic.btf": b"one amd64",
    }
    first = built["amd64"].read_bytes()
    again = btfgen.build_btfgen(archive, objects, scratch, quiet)
    assert again["amd64"].read_bytes() == first


@pytest.mark.usefixtures("bpftool")
def test_btfgen_failures(tmp_path: Path) -> None:
    archive = tmp_path / "hub"
    obj = {"amd64": tmp_path / "o"}
    obj["amd64"].touch()
    with pytest.raises(BuildError, match="hub: no such directory"):
        btfgen.build_btfgen(archive, obj, tmp_path, quiet)
    archive.mkdir()
    with pytest.raises(BuildError, match=r"has no \*\.btf\.tar\.xz for x86_64"):
        btfgen.build_btfgen(archive, obj, tmp_path, quiet)
    put_kernel(archive, "a/b/x86_64/k.btf.tar.xz", b"x", member="readme")
    with pytest.raises(BuildError, match=r"there is no \.btf in it"):
        btfgen.build_btfgen(archive, obj, tmp_path, quiet)
    (archive / "a/b/x86_64/k.btf.tar.xz").write_bytes(b"broken")
    with pytest.raises(BuildError, match="unpacking "):
        btfgen.build_btfgen(archive, obj, tmp_path, quiet)
