"""No image below 16 MiB costs inspecting it or preparing its run more than two seconds or 256 MiB.

Each sample is a small image that stands for a product (tests/support/costly.py). A process of
its own reads it, makes all that ``image inspect`` shows and a run's plan; that process and
wait4(2) tell what it took, start of the interpreter included.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import costly, wasm

from ig_py.oci import archive as archive_module
from ig_py.oci import media, tarfmt
from ig_py.oci.store import LOCK_FILE, Store

MAX_SECONDS = 2.0
MAX_MIB = 256
MAX_BYTES = 16 << 20
CHILD = Path(__file__).parents[1] / "support/cost_child.py"
MADE = r"made( made)*"


@dataclass(frozen=True)
class Cost:
    said: str
    seconds: float
    mib: float


def cost_of(kind: str, *arguments: str | Path) -> Cost:
    with subprocess.Popen(
        [sys.executable, CHILD, kind, *arguments], stdout=subprocess.PIPE, cwd=Path.cwd()
    ) as child:
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    end, mib = json.loads(said)
    found = Cost(end, used.ru_utime + used.ru_stime, mib)
    print(f"{found.seconds:.2f} s, {found.mib:.0f} MiB: {found.said[:160]}")
    return found


def check(found: Cost, said: str) -> None:
    assert re.search(said, found.said), found.said[:500]
    assert "\n" not in found.said
    assert found.seconds < MAX_SECONDS, found
    assert found.mib < MAX_MIB, found


Build = Callable[[], bytes]

OBJECTS: dict[str, tuple[Build, str]] = {
    "maps that share a struct": (
        lambda: costly.maps_of_one_struct(4000, 65_500),
        "LimitError.* attributes of map definitions",
    ),
    "maps that share a struct, within limits": (
        lambda: costly.maps_of_one_struct(4000, 16_000),
        MADE,
    ),
    "enum fields": (lambda: costly.enum_fields(4096, 65_535), "LimitError.* names of values"),
    "enum fields shown as numbers": (lambda: costly.enum_fields(4096, 65_535, ""), MADE),
    "enum fields, within limits": (lambda: costly.enum_fields(1000, 60), MADE),
    "data sources that share a struct": (
        lambda: costly.tracers_of_one_struct(1024, 4096),
        "LimitError.* 4096 fields",
    ),
    "data sources that share a struct, within limits": (
        lambda: costly.tracers_of_one_struct(1024, 4),
        MADE,
    ),
    "one data source of many fields": (lambda: costly.tracers_of_one_struct(1, 4096), MADE),
    "a parameter without content": (
        lambda: costly.parameters_without_content(4 << 30 >> 1),
        "LimitError.* bytes of parameters",
    ),
    "parameters without content": (
        lambda: costly.parameters_without_content(1024, 1000),
        MADE,
    ),
    "an endless number of entries": (lambda: costly.entries_variable(1 << 40), MADE),
    "parameters of one enum": (lambda: costly.parameters_of_one_enum(1000, 65_535), MADE),
    "names that are suffixes": (lambda: costly.type_names(1_000_000), "LimitError.* BTF types"),
    "variables' names that are suffixes": (
        lambda: costly.type_names(120_000, kind=14),
        MADE,
    ),
    "symbols of one name": (lambda: costly.symbols(1 << 18, 4096), "LimitError.* symbols"),
    "symbols of one long name": (lambda: costly.symbols(60_000, 4000), "LimitError.* of names"),
    "symbols, within limits": (lambda: costly.symbols(65_000, 20), MADE),
    "relocation sections upon one program": (
        lambda: costly.relocation_sections(8191, 64),
        "ObjectError.* sections overlap",
    ),
    "relocations upon one program": (
        lambda: costly.relocations(1 << 18),
        MADE,
    ),
    "too many relocations": (lambda: costly.relocations(1_000_000), "LimitError.* relocations"),
    "members behind typedefs": (
        lambda: costly.members_behind_typedefs(4000, 60, 10),
        "LimitError",
    ),
    "members behind long names": (
        lambda: costly.members_behind_typedefs(1000, 30, 4000),
        "LimitError.* characters together",
    ),
    "variables of a long section": (
        lambda: costly.variables_of_a_long_section(10_000),
        "LimitError.* bytes of names",
    ),
    "interactions of a long name": (
        lambda: costly.interactions(1000, 4000),
        "LimitError.* drawing|drawing .* more than .* characters",
    ),
    "interactions": (lambda: costly.interactions(4000, 4), MADE),
    "programs that reach one function": (
        lambda: costly.programs_that_call(1000, 30_000),
        "LimitError.* instructions, with all calls",
    ),
    "instructions": (lambda: costly.instructions(1 << 17), "LimitError.* characters|made"),
    "too many instructions": (lambda: costly.instructions(1_000_000), "LimitError.* instructions"),
    "long source lines": (
        lambda: costly.noted_instructions(30_000, 4000),
        "LimitError.* characters|LimitError.* bytes of names",
    ),
    "long CO-RE relocations": (
        lambda: costly.noted_instructions(30_000, 4000, core=True),
        "LimitError.* characters|LimitError.* bytes of names",
    ),
    "lists of no lines": (
        lambda: costly.noted_instructions(1, 8, lists=1_500_000),
        "LimitError.* (records|bytes of names)",
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name: str, tmp_path: Path) -> None:
    build, said = OBJECTS[name]
    sample = build()
    assert len(sample) < MAX_BYTES
    (tmp_path / "object").write_bytes(sample)
    check(cost_of("object", tmp_path / "object"), said)


BOTH: dict[str, tuple[Callable[[], tuple[bytes, bytes]], str]] = {
    "annotations that data sources share": (
        lambda: costly.case_variants(3000),
        "LimitError.* characters together",
    ),
    "annotations that data sources share, within limits": (
        lambda: costly.case_variants(8),
        MADE,
    ),
    "names that can be cut in many ways": (lambda: costly.dotted_names(4000), "LimitError.* keys"),
}


@pytest.mark.parametrize("name", BOTH)
def test_objects_with_metadata(name: str, tmp_path: Path) -> None:
    build, said = BOTH[name]
    sample, metadata = build()
    (tmp_path / "object").write_bytes(sample)
    (tmp_path / "metadata").write_bytes(metadata)
    check(cost_of("object", tmp_path / "object", tmp_path / "metadata"), said)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (costly.open_templates(30_000), MADE),
        (costly.grown_templates(4000, 60_000), "LimitError.* characters of texts"),
    ],
    ids=["templates without end", "templates that grow"],
)
def test_metadata(metadata: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "metadata").write_bytes(metadata)
    check(cost_of("metadata", tmp_path / "metadata"), said)


def test_wasm_sections_without_content(tmp_path: Path) -> None:
    (tmp_path / "module").write_bytes(costly.empty_sections(8_000_000 - 8))
    check(cost_of("module", tmp_path / "module"), "LimitError.* sections")


def started(
    init: bytes, text: wasm.Text | None = None, more: dict[str, bytes] | None = None
) -> bytes:
    return wasm.module({"gadgetInit": init + wasm.i32(0), **(more or {})}, text=text)


def blocks_in_blocks(count: int) -> bytes:
    return b"\x02\x40" * count + b"\x0b" * count


def endless(body: bytes) -> bytes:
    return b"\x03\x40" + body + b"\x0c\x00\x0b"


def log_lines() -> bytes:
    text = wasm.Text()
    line = text("x" * 60_000)
    return started(endless(wasm.call("gadgetLog", wasm.i32(1), line)), text)


def all_functions_called() -> bytes:
    first = len(wasm.UPCALLS) + 2
    long = blocks_in_blocks(340_000) + wasm.i32(0)
    calls = b"".join(b"\x10" + bytes([first + n]) + wasm.DROP for n in range(15))
    return started(calls, more={f"f{n}": long for n in range(15)})


WASM: dict[str, tuple[Build, str]] = {
    "a start without end": (lambda: started(endless(b"")), "executed more than 500000000"),
    "host functions without end": (log_lines, "what it asks the host for"),
    "blocks in blocks": (lambda: started(blocks_in_blocks(5_000_000)), "a function of 15000"),
    "functions of blocks in blocks": (all_functions_called, MADE),
}


@pytest.mark.parametrize("name", WASM)
def test_wasm_modules(name: str, tmp_path: Path) -> None:
    build, said = WASM[name]
    (tmp_path / "module").write_bytes(build())
    check(cost_of("guest", tmp_path / "module"), said)


def object_layer(layout: costly.Layout) -> dict[str, object]:
    return layout.blob(costly.Gadget().write(), media.EBPF_LAYER)


def test_one_layer_listed_many_times(tmp_path: Path) -> None:
    layout = costly.Layout(tmp_path / "image")
    layer = layout.blob(bytes(8 << 20), "application/x")
    manifest = layout.manifest([object_layer(layout), *[layer] * 120])
    layout.write([costly.named(layout.index([manifest]), "ghcr.io/x/y:1")])
    check(cost_of("image", tmp_path / "image"), MADE)


def test_a_manifest_of_empty_lists(tmp_path: Path) -> None:
    layout = costly.Layout(tmp_path / "image")
    more = {"x": [[] for _ in range(900_000)]}
    manifest = layout.manifest([object_layer(layout)], more)
    layout.write([costly.named(layout.index([manifest]), "ghcr.io/x/y:1")])
    check(cost_of("image", tmp_path / "image"), "LimitError.* values")


def test_a_manifest_of_signs_to_escape(tmp_path: Path) -> None:
    layout = costly.Layout(tmp_path / "image")
    manifest = layout.manifest([object_layer(layout)], {"x": "<" * 4_000_000})
    layout.write([costly.named(layout.index([manifest]), "ghcr.io/x/y:1")])
    check(cost_of("image", tmp_path / "image"), MADE)


def test_an_index_of_many_annotations(tmp_path: Path) -> None:
    layout = costly.Layout(tmp_path / "image")
    root = layout.index([layout.manifest([object_layer(layout)])])
    annotations = {f"k{i}": "v" for i in range(500)}
    layout.write([{**root, "annotations": annotations}] * 2000)
    check(cost_of("image", tmp_path / "image"), "LimitError.* values")


def packed(layout: costly.Layout, path: Path) -> Path:
    files = sorted(p for p in layout.root.rglob("*") if p.is_file())
    with path.open("wb") as file:
        tarfmt.write(
            file,
            (
                (str(p.relative_to(layout.root)), 0o644, p.stat().st_size, iter([p.read_bytes()]))
                for p in files
            ),
        )
    return path


def many_names(path: Path, count: int) -> Path:
    layout = costly.Layout(path / "image")
    root = layout.index([layout.manifest([object_layer(layout)])])
    layout.write([costly.named(root, f"ghcr.io/x/n{i}:1") for i in range(count)])
    return packed(layout, path / "image.tar")


def test_an_archive_of_many_names(tmp_path: Path) -> None:
    path = many_names(tmp_path, 10_000)
    check(cost_of("import", path, tmp_path / "store"), "^10000 names$")
    # Names that are there already cost no more.
    check(cost_of("import", path, tmp_path / "store"), "^10000 names$")
    assert len(Store.open(tmp_path / "store").images()) == 10_000


def test_an_archive_of_too_many_names(tmp_path: Path) -> None:
    path = many_names(tmp_path, 60_000)
    check(cost_of("import", path, tmp_path / "store"), "LimitError.* values")


def test_an_archive_whose_images_share_documents(tmp_path: Path) -> None:
    layout = costly.Layout(tmp_path / "image")
    layers = [layout.blob(b"%d" % i, "application/x") for i in range(127)]
    manifests = [layout.manifest(layers, {"annotations": {"n": str(i)}}) for i in range(120)]
    roots = [layout.index([*manifests[i % 100 :], *manifests[: i % 20]]) for i in range(200)]
    layout.write([costly.named(r, f"ghcr.io/x/n{i}:1") for i, r in enumerate(roots)])
    path = packed(layout, tmp_path / "image.tar")
    assert path.stat().st_size < MAX_BYTES
    check(cost_of("import", path, tmp_path / "store"), "^200 names$")


def test_an_archive_of_extended_headers(tmp_path: Path) -> None:
    records = b"12 atime=12\n" * 5000
    header = bytearray(tarfmt.header_block("x", 0o644, len(records)))
    header[156:157] = b"x"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content = (bytes(header) + records + bytes(-len(records) % 512)) * 200
    (tmp_path / "image.tar").write_bytes(content + bytes(1024))
    found = cost_of("import", tmp_path / "image.tar", tmp_path / "store")
    check(found, "LimitError.* records of extended headers")


@pytest.fixture
def lock_is_free(tmp_path: Path) -> Callable[[], bool]:
    def free() -> bool:
        fd = os.open(tmp_path / "store" / LOCK_FILE, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    return free


def test_an_import_holds_the_lock_only_to_commit(
    tmp_path: Path, lock_is_free: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command may tag while an archive is read and its blobs are written."""
    path = many_names(tmp_path, 10)
    store = Store.open(tmp_path / "store")
    store.ingest().__exit__(None, None, None)
    seen: list[tuple[str, bool]] = []

    def noting(what: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            seen.append((what, lock_is_free()))
            result = work(*args, **options)
            seen.append((what, lock_is_free()))
            return result

        return noted

    walk_all, stage = archive_module.walk.walk_all, archive_module.stage
    monkeypatch.setattr(archive_module.walk, "walk_all", noting("walk", walk_all))
    monkeypatch.setattr(archive_module, "stage", noting("stage", stage))
    from ig_py.oci.ingest import Ingest

    monkeypatch.setattr(Ingest, "publish", noting("publish", Ingest.publish))
    archive_module.import_images(path, store)
    assert seen == [("walk", True)] * 2 + [("stage", True)] * 2 + [("publish", False)] * 2


def test_the_oracle_sees_what_is_costly() -> None:
    """Processor time and memory of a sample that takes some."""
    from fuzz.cost import measure

    def busy(data: bytes) -> str:
        kept = [bytes(1 << 20).replace(b"\0", b"\1") for _ in range(64)]
        return str(sum(len(k) for k in kept) + sum(range(3_000_000)))

    _, cost = measure(busy, b"x" * 10)
    assert 60 < cost.mib < 200
    assert cost.seconds > 0.01
    assert not cost.too_much()


def iterations(target: float) -> Iterator[int]:
    import time

    stop = time.process_time() + target
    while time.process_time() < stop:
        yield 1


def test_of_several_commands_the_dearest_counts() -> None:
    from fuzz.cost import lap, measure

    def commands(data: bytes) -> str:
        for part in (0.1, 0.05, 0.3, 0.1):
            sum(iterations(part))
            lap()
        return ""

    _, cost = measure(commands, b"x")
    assert 0.4 < cost.seconds < 0.5


def test_the_oracle_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from fuzz import cost

    monkeypatch.setattr(cost, "GIVE_UP_SECONDS", 0.3)
    monkeypatch.setattr(cost, "MAX_SECONDS", 0.2)
    end, found = cost.measure(lambda data: str(sum(iterations(5))), b"x")
    assert end == "given up"
    assert "at most 0.2 s" in found.too_much()
