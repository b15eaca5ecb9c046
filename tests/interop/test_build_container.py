"""--builder-image with a real engine; the image is this machine's clang, packed up."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from support.engine import Engine, needed_engine
from support.tiny_gadget import PROGRAM, write_gadget

from ig_py.errors import BuildError
from ig_py.toolchain.build import build_gadget
from ig_py.toolchain.clang import require_clang
from ig_py.toolchain.options import BuildOptions
from ig_py.toolchain.vmlinux import include_dir
from ig_py.toolchain.wasm import find_linker

pytestmark = [
    pytest.mark.needs("root", "engine", "busybox", "clang"),
    pytest.mark.timeout(600),
]

IMAGE = "ig-py-test-builder:local"
ROOT = Path(__file__).parents[2]


def libraries(program: str) -> set[Path]:
    output = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return {Path(p) for p in re.findall(r"(/\S+) \(0x", output)}


def builder_tar(path: Path) -> None:
    """clang, llvm-strip, their libraries and headers, busybox, and vmlinux.h."""
    clang = require_clang()
    resources = subprocess.run(
        [clang.path, "-print-resource-dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    files = {Path(f"{resources}/include"): Path(f"{resources}/include")}
    links: dict[str, str] = {}
    for name, program in (("clang", clang.path), ("llvm-strip", clang.strip)):
        # clang finds its headers beside the place that it was started from.
        real = Path(program).resolve()
        files[real.with_name(name)] = real
        links[f"/usr/bin/{name}"] = str(real.with_name(name))
        files |= {library: library.resolve() for library in libraries(program)}
    for name in ("linux", "asm-generic", "x86_64-linux-gnu/asm", "aarch64-linux-gnu/asm"):
        if Path("/usr/include", name).is_dir():
            files[Path("/usr/include", name)] = Path("/usr/include", name)
    for arch in ("amd64", "arm64"):
        files[Path(f"/usr/include/gadget/{arch}/vmlinux.h")] = include_dir(arch) / "vmlinux.h"
    linker = find_linker(clang)
    if linker is not None:
        # The name decides what lld links; Debian's clang asks for that of its own release.
        for name in ("wasm-ld", f"wasm-ld-{clang.version}"):
            files[Path("/usr/bin", name)] = Path(linker).resolve()
        files |= {library: library.resolve() for library in libraries(linker)}
    busybox = shutil.which("busybox")
    assert busybox is not None
    for name in ("sleep", "cp"):
        files[Path("/bin", name)] = Path(busybox)
    with tarfile.open(path, "w", dereference=True) as tar:
        for inside, outside in files.items():
            tar.add(outside, str(inside).lstrip("/"))
        for name, target in links.items():
            link = tarfile.TarInfo(name.lstrip("/"))
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with needed_engine(tmp_path_factory.mktemp("engine")) as started:
        packed = tmp_path_factory.mktemp("image") / "builder.tar"
        builder_tar(packed)
        repository, _, tag = IMAGE.partition(":")
        with contextlib.closing(started.client(600)) as client:
            client.api.import_image(str(packed), repository=repository, tag=tag)
        packed.unlink()
        yield started


@pytest.fixture(autouse=True)
def environment(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    with contextlib.closing(engine.client()) as found:
        yield found
        assert found.containers.list(all=True) == []


@pytest.mark.usefixtures("client")
def test_the_same_image_as_a_local_build() -> None:
    local = build_gadget(BuildOptions(ROOT))
    contained = build_gadget(BuildOptions(ROOT, builder_image=IMAGE, builder_image_pull="never"))
    assert contained.index.digest == local.index.digest


@pytest.mark.needs("wasm_linker")
@pytest.mark.usefixtures("client")
def test_the_same_module_of_c_as_a_local_build() -> None:
    gadget = ROOT / "tests/gadgets/wasm_guest"
    local = build_gadget(BuildOptions(gadget))
    contained = build_gadget(BuildOptions(gadget, builder_image=IMAGE, builder_image_pull="never"))
    assert contained.index.digest == local.index.digest


@pytest.mark.usefixtures("client")
def test_produced_objects_are_ours(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    gadget = write_gadget(tmp_path / "g")
    build_gadget(BuildOptions(gadget, output=output, builder_image=IMAGE))
    assert sorted(p.name for p in output.iterdir()) == ["amd64.bpf.o", "arm64.bpf.o"]
    assert {p.stat().st_uid for p in output.iterdir()} == {os.getuid()}
    assert sorted(p.name for p in gadget.iterdir()) == ["gadget.yaml", "program.bpf.c"]


@pytest.mark.usefixtures("client")
def test_errors_are_those_of_the_compiler(tmp_path: Path) -> None:
    gadget = write_gadget(tmp_path / "g")
    (gadget / "program.bpf.c").write_text(PROGRAM + "int f(void) { return nothing; }\n")
    with pytest.raises(BuildError, match=r"program\.bpf\.c:\d+:\d+: error: use of undeclared"):
        build_gadget(BuildOptions(gadget, builder_image=IMAGE))


@pytest.mark.usefixtures("client")
def test_an_image_without_a_compiler(client: docker.DockerClient, tmp_path: Path) -> None:
    from support.busybox import import_image

    image = import_image(client)
    with pytest.raises(BuildError, match="compiling program"):
        build_gadget(BuildOptions(write_gadget(tmp_path / "g"), builder_image=image))


@pytest.mark.usefixtures("client")
def test_an_absent_image(tmp_path: Path) -> None:
    options = BuildOptions(
        write_gadget(tmp_path / "g"), builder_image="none:here", builder_image_pull="never"
    )
    with pytest.raises(BuildError, match="none:here is not available locally and pull is disabled"):
        build_gadget(options)


def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(BuildError, match=r"no container engine: .*start Docker, or install clang"):
        build_gadget(BuildOptions(write_gadget(tmp_path / "g"), builder_image=IMAGE))
