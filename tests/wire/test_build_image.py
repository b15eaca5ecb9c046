"""Building images: what comes out, what is left when it fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running_gadget import IG_PY
from support.tiny_gadget import METADATA, PROGRAM, write_gadget
from support.waiting import wait_for

from ig_py.errors import BuildError, IgPyError, MetadataError
from ig_py.inspect.wasm_imports import wasm_imports
from ig_py.oci.pack import PackedImage
from ig_py.toolchain.build import build_gadget, created_now
from ig_py.toolchain.options import BuildOptions

pytestmark = pytest.mark.needs("clang")

ROOT = Path(__file__).parents[2]
EPOCH = "1700000000"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A private TMPDIR that every build must leave empty."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    yield directory
    assert list(directory.iterdir()) == []


def layers(image: PackedImage) -> list[list[dict[str, object]]]:
    index = json.loads(image.blobs[image.index.digest])
    return [json.loads(image.blobs[m["digest"]])["layers"] for m in index["manifests"]]


def test_both_architectures(tmp_path: Path) -> None:
    image = build_gadget(BuildOptions(write_gadget(tmp_path / "g")))
    index = json.loads(image.blobs[image.index.digest])
    assert [m["platform"] for m in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    assert [len(found) for found in layers(image)] == [1, 1]
    assert index["annotations"]["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
    assert index["annotations"]["org.opencontainers.image.title"] == "tiny"


def test_the_place_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_gadget(BuildOptions(write_gadget(tmp_path / "one")))
    other = write_gadget(tmp_path / "some/where/else")
    monkeypatch.chdir(other.parent)
    monkeypatch.setenv("CPATH", "/nowhere")
    second = build_gadget(BuildOptions("else"))
    assert first.index.digest == second.index.digest
    assert first.blobs == second.blobs


def test_objects_name_no_directory_of_this_machine(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    build_gadget(BuildOptions(ROOT, output=output))
    for arch in ("amd64", "arm64"):
        data = (output / f"{arch}.bpf.o").read_bytes()
        for place in (str(ROOT), str(Path.home()), str(tmp_path), ".cache", "/tmp/"):
            assert place.encode() not in data, (arch, place)
        assert b"\0./program.bpf.c\0" in data
        assert b"\0/usr/include/gadget/filesystem.h\0" in data
        assert b".debug_info" not in data


def test_the_root_gadget_twice(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("program.bpf.c", "gadget.yaml"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    assert (
        build_gadget(BuildOptions(ROOT)).index.digest
        == build_gadget(BuildOptions(copy)).index.digest
    )


def test_output_keeps_the_objects(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    image = build_gadget(BuildOptions(write_gadget(tmp_path / "g"), output=output))
    assert sorted(p.name for p in output.iterdir()) == ["amd64.bpf.o", "arm64.bpf.o"]
    kept = {p.read_bytes() for p in output.iterdir()}
    assert kept <= set(image.blobs.values())
    assert all(p.stat().st_mode & 0o777 == 0o644 for p in output.iterdir())


def test_warnings_are_told_once(tmp_path: Path) -> None:
    gadget = write_gadget(tmp_path / "g")
    (gadget / "program.bpf.c").write_text(PROGRAM + "static int unused_thing(void) { return 1; }\n")
    told: list[str] = []
    build_gadget(BuildOptions(gadget, log=told.append))
    assert len([t for t in told if "unused_thing" in t]) == 1


def test_a_gadget_of_metadata_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g/gadget.yaml").write_text("name: x\n")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert layers(build_gadget(BuildOptions(tmp_path / "g"))) == [[], []]


def test_a_wasm_module(tmp_path: Path) -> None:
    gadget = write_gadget(tmp_path / "g")
    (gadget / "m.wasm").write_bytes(b"\0asm\1\0\0\0")
    (gadget / "build.yaml").write_text("wasm: m.wasm\n")
    image = build_gadget(BuildOptions(gadget))
    assert [len(found) for found in layers(image)] == [2, 2]
    assert b"\0asm\1\0\0\0" in image.blobs.values()


GO = """package main

//go:wasmexport gadgetAPIVersion
func gadgetAPIVersion() uint64 { return 1 }

func main() {}
"""


def check_same_module_elsewhere(gadget: Path, tmp_path: Path) -> bytes:
    """The module, which is the same from a copy of its sources."""
    copy = tmp_path / "a copy" / "deeper"
    shutil.copytree(gadget, copy)
    images = [build_gadget(BuildOptions(root)) for root in (gadget, copy)]
    assert images[0].index.digest == images[1].index.digest
    (module,) = {raw for raw in images[0].blobs.values() if raw.startswith(b"\0asm")}
    for place in (str(tmp_path), str(gadget), str(Path.home())):
        assert place.encode() not in module, place
    return module


@pytest.mark.needs("wasm_linker")
def test_a_module_of_c(tmp_path: Path) -> None:
    guest = ROOT / "tests/gadgets/wasm_guest"
    module = check_same_module_elsewhere(guest, tmp_path)
    assert set(wasm_imports(module, "ig", "test")) == {
        "getDataSource", "getParamValue", "newDataSource", "gadgetLog", "gadgetShouldLog",
        "dataSourceGetField", "dataSourceAddField", "dataSourceSubscribe", "fieldGetBuffer",
        "fieldSet", "fieldGetScalar", "dataSourceNewPacketSingle", "dataSourceEmitAndRelease",
    }  # fmt: skip
    for name in ("memory", "gadgetAPIVersion", "dataSourceCallback", "gadgetInit"):
        assert bytes([len(name), *name.encode()]) in module, name


@pytest.mark.needs("wasm_linker")
def test_a_function_of_c_that_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "guest.c").write_text("int other(void);\nint f(void)\n{\n\treturn other(1);\n}\n")
    (tmp_path / "build.yaml").write_text("wasm: guest.c\n")
    with pytest.raises(BuildError, match=r"^building guest\.c: guest\.c:4:1.: error: too many arg"):
        build_gadget(BuildOptions(tmp_path))


@pytest.mark.needs("go")
def test_a_module_of_go(tmp_path: Path) -> None:
    gadget = tmp_path / "g"
    (gadget / "go").mkdir(parents=True)
    (gadget / "go/program.go").write_text(GO)
    (gadget / "go/go.mod").write_text("module x\n\ngo 1.24\n")
    (gadget / "build.yaml").write_text("wasm: go/program.go\n")
    assert b"gadgetAPIVersion" in check_same_module_elsewhere(gadget, tmp_path)


def test_compiler_errors_are_readable(tmp_path: Path) -> None:
    gadget = write_gadget(tmp_path / "g")
    output = tmp_path / "out"
    output.mkdir()
    (gadget / "program.bpf.c").write_text("int f(void)\n{\n\treturn nothing;\n}\n")
    with pytest.raises(BuildError) as failure:
        build_gadget(BuildOptions(gadget, output=output, update_metadata=True))
    assert str(failure.value) == (
        "compiling program.bpf.c for amd64: program.bpf.c:3:9: error: "
        "use of undeclared identifier 'nothing'"
    )
    assert "return nothing;" in failure.value.detail
    assert list(output.iterdir()) == []
    assert (gadget / "gadget.yaml").read_text() == METADATA


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("no_such:\n      key: a", "gadget.yaml:3: variable 'no_such' not found"),
        ("not_const:\n      key: a", "gadget.yaml:3: 'not_const' is not const"),
        ("not_volatile:\n      key: a", "gadget.yaml:3: 'not_volatile' is not volatile"),
        ("not_global:\n      key: a", "gadget.yaml:3: 'not_global' is not a global variable"),
        ("limit:\n      key: ''", "gadget.yaml:3: param 'limit' has an empty key"),
        ("limit:\n      description: x", "gadget.yaml:3: param 'limit' has an empty key"),
        ("limit:\n      - a", "gadget.yaml:3: params.ebpf.limit: expected a mapping"),
    ],
)
def test_metadata_must_fit(tmp_path: Path, param: str, message: str) -> None:
    text = f"params:\n  ebpf:\n    {param}\n"
    gadget = write_gadget(tmp_path / "g", metadata=text)
    with pytest.raises(MetadataError) as failure:
        build_gadget(BuildOptions(gadget))
    assert str(failure.value).startswith(message)
    build_gadget(BuildOptions(gadget, validate_metadata=False))


def test_an_unknown_program_is_told(tmp_path: Path) -> None:
    text = "programs:\n  on_enter:\n    optional: true\n  other: {}\n"
    told: list[str] = []
    build_gadget(BuildOptions(write_gadget(tmp_path / "g", metadata=text), log=told.append))
    assert told == ["gadget.yaml:4: the object has no program 'other'"]


@pytest.mark.parametrize("epoch", ["", "x", "-1", "1.5", "9" * 20])
def test_a_bad_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(BuildError, match="reading SOURCE_DATE_EPOCH"):
        build_gadget(BuildOptions(write_gadget(tmp_path / "g")))


def test_created_now(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    for zone, suffix in (("UTC", "Z"), ("IST-5:30", "+05:30")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert created_now().endswith(suffix)
        assert len(created_now()) == 19 + len(suffix)
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere"}, "building nowhere: no such directory"),
        ({"path": "g/program.bpf.c"}, "building g/program.bpf.c: not a directory"),
        ({"path": "g", "output": "nowhere"}, "output nowhere: no such directory"),
        ({"path": "g", "file": "nowhere.yaml"}, "reading build file nowhere.yaml: No such file"),
        ({"path": "g", "btfgen": True}, "it requires --btfhub-archive"),
    ],
)
def test_wrong_options(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    message: str,
) -> None:
    write_gadget(tmp_path / "g")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IgPyError, match=message):
        build_gadget(BuildOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build(tmp_path: Path, scratch: Path, number: int) -> None:
    """A compiler that hangs, and the signal: neither it nor files are left."""
    slow = tmp_path / "slow-clang"
    slow.write_text(
        '#!/bin/sh\ntest "$1" = --version && exec echo clang version 14.0.0\n'
        f"echo $$ >>{tmp_path}/pids\nsleep 300\n"
    )
    slow.chmod(0o755)
    output = tmp_path / "out"
    output.mkdir()
    process = subprocess.Popen(
        [
            IG_PY, "image", "build", str(write_gadget(tmp_path / "g")),
            "-o", str(output), "--oci-store", str(tmp_path / "store"),
        ],
        env={**os.environ, "CLANG": str(slow), "LLVM_STRIP": "/bin/true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    pids = tmp_path / "pids"
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2, "compilers run")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert b"Traceback" not in err
    assert list(output.iterdir()) == []
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the compiler is gone")


def test_the_command(tmp_path: Path) -> None:
    gadget = write_gadget(tmp_path / "g")
    store = str(tmp_path / "store")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}

    def ig_py(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [IG_PY, "image", "build", *argv, "--oci-store", store],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )

    digest = build_gadget(BuildOptions(gadget)).index.digest
    built = ig_py(str(gadget), "-t", "tiny:1", "--local")
    assert (built.returncode, built.stdout) == (0, "")
    assert built.stderr == (f"Successfully built ghcr.io/inspektor-gadget/gadget/tiny:1@{digest}\n")
    assert ig_py(str(gadget)).stderr == f"Successfully built @{digest}\n"
    (gadget / "gadget.yaml").write_text("annotations: [a]\n")
    assert ig_py(str(gadget), "--local=false", "--validate-metadata=true").returncode == 1
    assert "annotations is not a map" in ig_py(str(gadget), "--validate-metadata=false").stderr
    (gadget / "gadget.yaml").write_text("params:\n  ebpf:\n    nowhere: {key: a}\n")
    assert "nowhere" in ig_py(str(gadget)).stderr
    assert ig_py(str(gadget), "--validate-metadata=false").returncode == 0
    for argv, message in (
        ([str(gadget), "--local", "--builder-image", "x"], "cannot be used at the same time"),
        ([str(gadget), "--builder-image-pull", "foo"], "invalid value for --builder-image-pull"),
        ([str(gadget), "-t", "UPPER CASE"], "UPPER CASE"),
        ([str(gadget), "--local=maybe"], 'invalid argument "maybe" for "--local" flag'),
        ([], "accepts 1 arg(s), received 0"),
        ([str(tmp_path / "none")], "no such directory"),
    ):
        failed = ig_py(*argv)
        assert failed.returncode == 1
        assert message in failed.stderr
        assert failed.stderr.count("\n") == 1
