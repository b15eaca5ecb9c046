"""Wasm builds, btfgen archives and the compiler's arguments, without compilers."""

from __future__ import annotations

import io
import lzma
import re
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from ig_py.errors import BuildError
from ig_py.toolchain import btfgen, container, wasm
from ig_py.toolchain.compile import CODE, Includes, clang_argv
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
    assert argv[:8] == ["clang", *CODE]
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
    assert compile_[:8] == ["clang", *CODE]
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
        'test "$GOOS $GOARCH $CGO_ENABLED $GOFLAGS" = "wasip1 wasm 0 -trimpath" || exit 9\n'
        'test "$1" != env || { echo go1.24.1; exit; }\n'
        f'echo "$*" >{tools}/args\n'
        'while [ "$1" != -o ]; do shift; done\necho module >"$2"\n',
    )
    built = wasm.build_wasm(tmp_path, "go/program.go", tools, quiet)
    assert built.read_text() == "module\n"
    assert (tools / "args").read_text().split() == [
        "build", "-C", str(tmp_path / "go"), "-o", str(built), "-buildmode=c-shared",
        "-trimpath", "-buildvcs=false", "-ldflags", "-w", "-s", "-buildid=", "program.go",
    ]  # fmt: skip


TINYGO = (
    'test -z "$GOOS" || exit 9\necho "$*" >args\n'
    'while [ "$1" != -o ]; do shift; done\necho tiny >"$2"\n'
)


def old_go(tools: Path, version: str = "go1.23.4") -> None:
    script(tools / "go", f'test "$1" = env || exit 9\necho {version}\n')


@pytest.mark.parametrize("version", ["go1.23.4", "go1.9", "devel go1.23-abcdef"])
def test_a_go_that_is_too_old(tmp_path: Path, tools: Path, version: str) -> None:
    old_go(tools, f"'{version}'")
    told = version.split("-")[0].split()[-1].removesuffix(".4")
    with pytest.raises(BuildError, match=f"program.go: {told} is too old: install Go 1.24 or"):
        wasm.build_wasm(tmp_path, "program.go", tools, quiet)


@pytest.mark.parametrize("go", ["none", "old", "overridden"])
def test_tinygo(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch, go: str) -> None:
    name = "tinygo"
    if go == "old":
        old_go(tools)
    elif go == "none":
        monkeypatch.setenv("PATH", f"{tools}:/bin")
        assert shutil.which("go") is None
    else:
        old_go(tools, "go1.30")
        name = "tinygo-0.40"
        monkeypatch.setenv("TINYGO", name)
    script(tools / name, TINYGO)
    (tmp_path / "go").mkdir()
    built = wasm.build_wasm(tmp_path, "go/program.go", tools, quiet)
    assert built.read_text() == "tiny\n"
    assert (tmp_path / "go/args").read_text().split() == [
        "build", "-target=wasip1", "-buildmode=c-shared", "-no-debug",
        "-o", str(built), "program.go",
    ]  # fmt: skip


def test_a_tinygo_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGO", "/nowhere/tinygo")
    with pytest.raises(BuildError, match="TINYGO=/nowhere/tinygo does not exist"):
        wasm.build_wasm(tmp_path, "a.go", tmp_path, quiet)


RUSTC = 'test "$*" = "--print target-libdir --target wasm32-wasip1" || exit 9\n'


@pytest.mark.parametrize(
    ("library", "product"),
    [
        ("", "my-gadget"),
        ('[lib]\ncrate-type = ["cdylib"]\n', "my_gadget"),
        ('[lib]\nname = "other"\n', "other"),
    ],
)
def test_rust(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch, library: str, product: str
) -> None:
    (tmp_path / "rust/src").mkdir(parents=True)
    (tmp_path / "rust/Cargo.toml").write_text(f'[package]\nname = "my-gadget"\n{library}')
    script(
        tools / "cargo",
        f'echo "$*" >{tools}/args\n'
        'mkdir -p "$CARGO_TARGET_DIR/wasm32-wasip1/release"\n'
        f'echo module >"$CARGO_TARGET_DIR/wasm32-wasip1/release/{product}.wasm"\n',
    )
    script(tools / "rustc", f"{RUSTC}echo {tools}\n")
    monkeypatch.setenv("CARGO_HOME", "/c argo")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    built = wasm.build_wasm(tmp_path, "rust/src/program.rs", scratch, quiet)
    assert built == scratch / "program.wasm"
    assert built.read_text() == "module\n"
    remap = (
        'build.rustflags=["--remap-path-prefix=/c argo=/cargo", '
        f'"--remap-path-prefix={scratch}/cargo=/target", "--remap-path-prefix={tmp_path}=."]'
    )
    assert (tools / "args").read_text() == (
        "build --target wasm32-wasip1 --release "
        f"--manifest-path {tmp_path}/rust/Cargo.toml --config {remap}\n"
    )


@pytest.mark.parametrize("says", ["echo /nowhere/lib\n", "exit 1\n", "exit 0\n"])
def test_a_rust_without_the_target(tmp_path: Path, tools: Path, says: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "g"\n')
    script(tools / "cargo", "exit 9\n")
    script(tools / "rustc", RUSTC + says)
    with pytest.raises(BuildError, match="no target wasm32-wasip1: run rustup target add"):
        wasm.build_wasm(tmp_path, "src/program.rs", tmp_path, quiet)


def test_rust_that_leaves_nothing(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "g"\n')
    script(tools / "cargo", "exit 0\n")
    script(tools / "rustc", f"{RUSTC}echo {tools}\n")
    with pytest.raises(BuildError, match=r"cargo left no g\.wasm: No such file.*crate-type"):
        wasm.build_wasm(tmp_path, "src/program.rs", tmp_path, quiet)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[package]\n",
        "not toml [",
        "[package]\nname = 1\n",
        '[package]\nname = "../x"\n',
        '[package]\nname = "x"\n[lib]\nname = "../x"\n',
        "[package]\nname = 1\n[lib]\n",
    ],
)
def test_a_manifest_without_a_name(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "Cargo.toml").write_text(manifest)
    with pytest.raises(BuildError, match="no package name"):
        wasm.cargo_product(tmp_path, "Cargo.toml")


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"Cargo\.toml not found"):
        wasm.cargo_product(tmp_path, wasm.cargo_manifest("src/program.rs"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("a.go", "a.go: go is not installed: install Go 1.24 or newer, use --builder-image, or"),
        ("src/a.rs", "src/a.rs: cargo is not installed: install cargo, use --builder-image, or"),
        ("a.c", "finding clang: no clang 14 or newer in PATH"),
    ],
)
def test_a_missing_toolchain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=re.escape(says)):
        wasm.build_wasm(tmp_path, source, tmp_path, quiet)


def test_a_clang_without_its_linker(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tools))
    script(tools / "clang", "echo clang version 14.0.6\n")
    script(tools / "llvm-strip", "")
    with pytest.raises(BuildError, match=r"wasm-ld, .* is not installed: install lld-14, use"):
        wasm.build_wasm(tmp_path, "a.c", tmp_path, quiet)


def test_c(tmp_path: Path, tools: Path) -> None:
    script(
        tools / "clang",
        'test "$1" != --version || { echo clang version 99.1; exit; }\n'
        f'echo "$*" >{tools}/args\n',
    )
    script(tools / "llvm-strip", "")
    script(tools / "wasm-ld", "")
    script(tools / "wasm-ld-99", "")
    wasm.build_wasm(tmp_path, "src/guest.c", tmp_path, quiet)
    told = (tools / "args").read_text().split()
    assert told[:2] == [f"-fuse-ld={tools}/wasm-ld-99", "--target=wasm32"]
    assert told[-3:] == ["-o", f"{tmp_path}/program.wasm", "src/guest.c"]
    assert f"-ffile-prefix-map={tmp_path}=." in told
    assert Path(told[told.index("-I") + 1], "gadget/wasm.h").is_file()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "m.wasm: it is not a wasm module"),
        (b"\0asm", "m.wasm: it is not a wasm module"),
        (b"\x7fELF\2\1\1\0", "m.wasm: it is not a wasm module"),
        (b"\0asm\x0d\0\1\0", "m.wasm: it is a wasm component, not a module: build for wasm32"),
    ],
)
def test_what_is_no_module(raw: bytes, says: str) -> None:
    wasm.check_module(b"\0asm\1\0\0\0", "m.wasm")
    with pytest.raises(BuildError, match=re.escape(says)):
        wasm.check_module(raw, "m.wasm")


def test_arguments_of_modules_inside_a_container(tmp_path: Path) -> None:
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "g-x"\n[lib]\n')
    _, steps = container._wasm_steps(tmp_path, "src/p.rs", tmp_path)
    assert [argv for argv, _ in steps] == [
        wasm.cargo_argv("/work/Cargo.toml", {"/out": "/target", "/work": "."}),
        ["cp", "/out/wasm32-wasip1/release/g_x.wasm", "/out/program.wasm"],
    ]
    _, [(argv, env)] = container._wasm_steps(tmp_path, "go/p.go", tmp_path)
    assert argv == wasm.go_argv("/work/go", "/out/program.wasm", "p.go")
    assert env == wasm.GO_ENVIRONMENT
    _, [(argv, env)] = container._wasm_steps(tmp_path, "g.c", tmp_path)
    assert env == {"TMPDIR": "/out"}
    assert argv[:2] == ["clang", "--target=wasm32"]
    assert argv[-5:] == ["-I", "/ig-py/include", "-o", "/out/program.wasm", "g.c"]


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
