"""``image inspect`` from an image on disk to what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.gadget_objects import object_with_limit
from support.images import write_layout
from support.wasm import UPCALLS, module

from ig_py.cli import main
from ig_py.oci.pack import GadgetFiles, pack

METADATA = b"""name: demo
description: <a demo>
datasources:
  ds:
    annotations: {cli.x: y}
    fields:
      a: {annotations: {template: pid}}
"""
WASM = module({})

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    files = GadgetFiles(ebpf=object_with_limit(), wasm=WASM)
    packed = pack(
        {"amd64": files, "arm64": files},
        METADATA,
        builder_version="v0.1.0",
        created="2026-01-02T03:04:05Z",
    )
    write_layout(path, packed, ["demo:1"])
    return path


@pytest.fixture
def run(layout: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    def inspect(*flags: str, image: Path = layout) -> tuple[int, str, str]:
        code = main(["image", "inspect", str(image), "--verify-image=false", *flags])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return inspect


def test_everything(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    document = json.loads(out)
    assert list(document) == [
        "ebpf.flowchart",
        "ebpf.maps",
        "ebpf.programs",
        "ebpf.sections",
        "ebpf.sequence",
        "ebpf.variables",
        "oci.created",
        "oci.digest",
        "oci.manifest",
        "oci.metadata",
        "oci.repository",
        "oci.tag",
        "wasm.gadgetAPIVersion",
        "wasm.upcalls",
    ]
    assert document["oci.metadata"] == {"content": METADATA.decode(), "contentType": "text/yaml"}
    assert document["ebpf.maps"]["contentType"] == "application/json"
    assert "\\u003ca demo\\u003e" in out


def test_everything_in_other_modes(run: Run) -> None:
    _, compact, _ = run("-o", "json")
    _, pretty, _ = run("--output=jsonpretty")
    _, text, _ = run("-o", "yaml")
    assert compact.count("\n") == 1
    assert json.loads(compact) == json.loads(pretty) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ebpf.maps", [{"Name": "events", "Type": "RingBuf"}]),
        (
            "ebpf.variables",
            [
                {
                    "Name": "gadget_tracer_ds___events___event",
                    "Offset": 0,
                    "Size": 8,
                    "Map": ".bss",
                },
                {"Name": "limit", "Offset": 0, "Size": 4, "Map": ".rodata"},
            ],
        ),
        ("wasm.upcalls", list(UPCALLS)),
        ("oci.metadata", yaml.safe_load(METADATA)),
    ],
)
def test_structured_keys(run: Run, key: str, value: object) -> None:
    code, out, _ = run("--extra-info", key)
    assert (code, json.loads(out)) == (0, value)


@pytest.mark.parametrize("mode", ["json", "jsonpretty", "yaml"])
def test_texts_are_the_same_in_every_mode(run: Run, mode: str) -> None:
    _, out, _ = run("--extra-info=ebpf.flowchart", "-o", mode)
    assert out == (
        'flowchart LR\nevents[("events")]\nprog -- "Lookup" --> events\nprog["prog"]\n\n'
    )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("oci.created", "2026-01-02T03:04:05Z\n"),
        ("wasm.gadgetAPIVersion", "1\n"),
    ],
)
def test_plain_keys(run: Run, key: str, text: str) -> None:
    assert run("--extra-info", key)[1] == text


def test_programs(run: Run) -> None:
    [program] = json.loads(run("--extra-info", "ebpf.programs")[1])
    assert list(program) == ["Section", "Source", "SourceWithRelocation"]
    assert "\t0: LoadMapPtr dst: r1 fd: 0 <events>\n" in program["Source"]
    assert "\nLoadMapPtr" in "\n" + program["SourceWithRelocation"]


def test_digest_is_that_of_the_metadata(run: Run) -> None:
    manifest = json.loads(run("--extra-info", "oci.manifest")[1])
    assert run("--extra-info", "oci.digest")[1] == manifest["config"]["digest"] + "\n"


def test_data_sources(run: Run) -> None:
    [ds] = json.loads(run("--show-datasources")[1])
    assert list(ds) == ["name", "type", "fields", "annotations"]
    assert (ds["name"], ds["type"], ds["annotations"]) == ("ds", 1, {"cli.x": "y"})
    field = ds["fields"][0]
    assert list(field) == ["name", "fullName", "size", "flags", "kind", "tags", "annotations"]
    assert (field["size"], field["flags"], field["kind"]) == (4, 16, 4)
    assert field["annotations"]["columns.minwidth"] == "7"


def test_annotations_of_the_command_line(run: Run) -> None:
    _, out, _ = run("--show-datasources", "--annotate", r"ds.a:description=x\,y,ds:k=v")
    [ds] = json.loads(out)
    assert ds["fields"][0]["annotations"]["description"] == "x,y"
    assert ds["annotations"]["k"] == "v"


def test_jsonpath(run: Run) -> None:
    assert run("--extra-info", "ebpf.maps", "--jsonpath", "[0].Name")[1] == "events\n"
    assert run("--show-datasources", "--jsonpath", "[0].type", "-o", "json")[1] == "1\n"
    _, out, _ = run("--extra-info", "oci.metadata", "--jsonpath", ".name")
    assert out == "demo\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--extra-info", "foo"], 'extra info "foo" not found'),
        (
            ["-o", "custom"],
            'invalid output mode "custom", valid values are: yaml, json, jsonpretty',
        ),
        (
            ["--extra-info", "X", "--show-datasources"],
            'extra-info "X" and show-datasources cannot be used together',
        ),
        (
            ["--jsonpath", ".x"],
            'jsonpath ".x" can only be used with extra info or show-datasources',
        ),
        (
            ["--extra-info", "oci.tag", "--jsonpath", ".x"],
            'jsonpath ".x" can only be used with JSON or YAML content',
        ),
        (
            ["--extra-info", "oci.metadata", "--jsonpath", ".x"],
            'resolving path ".x": unknown key x',
        ),
        (["--nosuch"], "unknown flag: --nosuch"),
        (["second"], "accepts 1 arg(s), received 2"),
        (["--annotate", "x"], "subject:assignment"),
    ],
)
def test_wrong_use_is_told_in_one_line(run: Run, flags: list[str], message: str) -> None:
    code, out, err = run(*flags)
    assert (code, out) == (1, "")
    [line] = [x for x in err.splitlines() if x.startswith("Error: ")]
    assert message in line


def packed_layout(path: Path, files: GadgetFiles, metadata: bytes | None = METADATA) -> Path:
    packed = pack(
        {"amd64": files, "arm64": files}, metadata, builder_version="v0.1.0", created="2026"
    )
    write_layout(path, packed, [])
    return path


def test_metadata_only(run: Run, tmp_path: Path) -> None:
    image = packed_layout(tmp_path / "m", GadgetFiles())
    assert run(image=image)[:2] == (0, "{}\n")


def test_a_broken_object_is_told(run: Run, tmp_path: Path) -> None:
    image = packed_layout(tmp_path / "b", GadgetFiles(ebpf=b"\x7fELF\2\1 garbage"))
    code, _, err = run(image=image)
    assert code == 1
    assert "not a valid eBPF ELF object" in err


def test_a_broken_wasm_module_is_told(run: Run, tmp_path: Path) -> None:
    image = packed_layout(tmp_path / "w", GadgetFiles(ebpf=object_with_limit(), wasm=WASM[:200]))
    code, _, err = run("--extra-info", "wasm.upcalls", image=image)
    assert code == 1
    assert "cut short" in err
    code, out, err = run("--show-datasources", image=image)
    assert (code, "what it would make is missing" in err) == (0, True)
    assert [ds["name"] for ds in json.loads(out)] == ["ds"]


def test_notes_are_warnings_on_stderr(run: Run) -> None:
    code, out, err = run("--show-datasources", "--annotate", "ds.a:template=nosuch")
    assert code == 0
    assert "nosuch" in err
    assert json.loads(out)


def test_no_verification_no_inspection(layout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "inspect", str(layout)]) == 1
    assert "Error: " in capfd.readouterr().err


def test_names_from_an_image_do_not_act_on_a_terminal(
    layout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    flag = "ds:k=\x1b[31m"
    main(
        ["image", "inspect", str(layout), "--verify-image=false", "--show-datasources",
         "-o", "yaml", "--annotate", flag]
    )  # fmt: skip
    assert "\x1b" not in capfd.readouterr().out


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "inspect", "--help"]) == 0
    assert "--extra-info" in capfd.readouterr().out
