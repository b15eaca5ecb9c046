"""No character that acts on a terminal reaches one, wherever a stranger's text is shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.fake_docker import FakeContainer, container_id, fake_docker
from support.gadget_objects import object_with_limit
from support.hostile_text import HOSTILE, MARK, TEXT, acting, on_terminal
from support.images import write_layout
from support.registry_server import FaultyRegistry, Reply, Request, serving

from ig_py.oci import media
from ig_py.oci.pack import GadgetFiles, pack

METADATA: dict[str, Any] = {
    "name": TEXT,
    "description": TEXT,
    "homepageURL": TEXT,
    "documentationURL": TEXT,
    "sourceURL": TEXT,
    "annotations": {TEXT: TEXT},
    "datasources": {
        "ds": {
            "annotations": {TEXT: TEXT},
            "fields": {
                "a": {
                    "annotations": {
                        TEXT: TEXT,
                        "description": TEXT,
                        "columns.alias": TEXT,
                        "columns.width": "60",
                    }
                }
            },
        }
    },
    "params": {
        "ebpf": {
            "limit": {
                "key": "limit",
                "title": TEXT,
                "description": TEXT,
                "alias": TEXT,
                "defaultValue": TEXT,
            }
        }
    },
}


def document() -> bytes:
    return yaml.safe_dump(METADATA, allow_unicode=False).encode()


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "image"
    files = GadgetFiles(ebpf=object_with_limit())
    packed = pack(
        {"amd64": files, "arm64": files},
        document(),
        builder_version=TEXT,
        created="2026-01-02T03:04:05Z",
    )
    write_layout(path, packed, [f"demo:{TEXT}"])
    return path


def test_what_acts_is_found() -> None:
    assert len(acting(HOSTILE.encode())) >= 24
    assert acting(b"\x9b31m") == ["U+DC9B"]
    assert acting("plain é 日本\r\n\t".encode()) == []


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-o", "yaml"],
        ["-o", "jsonpretty"],
        ["--extra-info", "oci.index"],
        ["--extra-info", "oci.manifest", "-o", "yaml"],
        ["--extra-info", "oci.metadata"],
        ["--extra-info", "oci.metadata", "--jsonpath", ".name"],
        ["--show-datasources"],
        ["--help"],
        ["-v"],
    ],
    ids=" ".join,
)
def test_inspect(layout: Path, flags: list[str]) -> None:
    shown = on_terminal(["image", "inspect", str(layout), "--verify-image=false", *flags])
    assert acting(shown) == []
    assert shown


@pytest.mark.parametrize(
    "flags", [["--help"], ["--limit=x"], ["--fields=nope"], ["-o", "ds:nope"], []], ids=" ".join
)
def test_run(layout: Path, flags: list[str]) -> None:
    argv = ["run", str(layout), "--verify-image=false", "--host", "-t", "1", *flags]
    shown = on_terminal(argv)
    assert acting(shown) == []
    assert shown


@pytest.fixture(scope="module")
def archive(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / f"{MARK}.tar"
    subprocess.run(["tar", "-C", str(layout), "-cf", str(path), "."], check=True)
    return path


@pytest.mark.parametrize("mode", ["columns", "json", "jsonpretty"])
def test_import_and_list(archive: Path, tmp_path: Path, mode: str) -> None:
    store = str(tmp_path / "store")
    shown = on_terminal(["image", "import", str(archive), "-o", mode], IG_PY_STORE=store)
    assert acting(shown) == []
    listed = on_terminal(["image", "list", "-o", mode], IG_PY_STORE=store)
    assert acting(listed) == []


@pytest.mark.parametrize("mode", ["columns", "json", "jsonpretty"])
@pytest.mark.parametrize("flags", [[], ["--no-trunc"]], ids=["", "no-trunc"])
def test_a_store_with_hostile_names(
    layout: Path, tmp_path: Path, mode: str, flags: list[str]
) -> None:
    store = tmp_path / "store"
    subprocess.run(["cp", "-r", str(layout), str(store)], check=True)
    index = json.loads((store / "index.json").read_text())
    for name in (TEXT, f"ghcr.io/x/{TEXT}:1", f"ghcr.io/x/y:{TEXT}"):
        entry = index["manifests"][0]
        index["manifests"].append({**entry, "annotations": {media.REF_NAME: name, TEXT: TEXT}})
    (store / "index.json").write_text(json.dumps(index))
    shown = on_terminal(["image", "list", "-o", mode, *flags], IG_PY_STORE=str(store))
    assert acting(shown) == []
    assert shown
    for command in (["remove", TEXT], ["tag", TEXT, "x:1"], ["prune", "--dry-run"]):
        assert acting(on_terminal(["image", *command], IG_PY_STORE=str(store))) == []


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with (
        subprocess.Popen(["sleep", "600"]) as child,
        fake_docker(tmp_path_factory.mktemp("engine")) as fake,
    ):
        fake.add(
            FakeContainer(
                container_id(1),
                TEXT,
                pid=child.pid,
                image=TEXT,
                labels={
                    "io.kubernetes.pod.name": TEXT,
                    "io.kubernetes.pod.namespace": TEXT,
                    "io.kubernetes.container.name": TEXT,
                    TEXT: TEXT,
                },
            )
        )
        yield fake.path
        child.kill()


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-o", "columns=k8s.podName,k8s.labels,runtime.containerName,runtime.containerImageName"],
        ["-o", "json"],
        ["-o", "yaml"],
        ["-w", "--timeout", "1"],
        ["-w", "--timeout", "1", "-o", "json"],
        ["-w", "--timeout", "1", "-o", "yaml"],
        ["-c", TEXT.replace("\0", "")],
    ],
    ids=lambda flags: " ".join(flags)[:20].encode("ascii", "replace").decode(),
)
def test_list_containers(engine: Path, flags: list[str]) -> None:
    argv = ["list-containers", "-r", "docker", f"--docker-socketpath={engine}", *flags]
    shown = on_terminal(argv)
    assert acting(shown) == []
    assert MARK.encode() in shown


@pytest.mark.parametrize("flags", [[], ["-o", "json"]], ids=" ".join)
def test_doctor(engine: Path, flags: list[str]) -> None:
    shown = on_terminal(["doctor", f"--docker-socketpath={engine}", *flags])
    assert acting(shown) == []
    assert shown


@pytest.mark.parametrize("verbose", [[], ["-v"]], ids=["", "verbose"])
@pytest.mark.parametrize("broken", ["error", "warning", "path", "metadata", "build file"])
def test_a_build_that_fails(tmp_path: Path, broken: str, verbose: list[str]) -> None:
    source = tmp_path / "gadget"
    source.mkdir()
    raw = HOSTILE.replace("\x0b", "").replace("\x0c", "")
    name = "program.bpf.c" if broken != "path" else f"{MARK}{raw}.bpf.c"
    text = {
        "error": f"#error {MARK}{raw}\n",
        "warning": f'#warning {MARK}{raw}\n#include "{MARK}{raw}.h"\n',
    }.get(broken, "int x = no_such_thing;\n")
    (source / name).write_text(text)
    (source / "gadget.yaml").write_bytes(
        document() if broken != "metadata" else f'"{MARK}{raw}": ['.encode()
    )
    build = {"ebpfsource": name} if broken == "path" else {}
    if broken == "build file":
        build = {TEXT: TEXT}
    (source / "build.yaml").write_text(yaml.safe_dump(build, allow_unicode=False))
    shown = on_terminal(
        ["image", "build", str(source), "-t", "x:1", *verbose], IG_PY_STORE=str(tmp_path / "s")
    )
    assert acting(shown) == []
    assert b"Error" in shown


ANSWERS = {
    "reason": Reply(500, TEXT.encode()),
    "errors": Reply(
        403, json.dumps({"errors": [{"code": TEXT, "message": TEXT, "detail": TEXT}]}).encode()
    ),
    "challenge": Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{MARK}\x1b[2J\x9b"'}),
    "type": Reply(200, b"{}", {"Content-Type": f"{MARK}\x1b[2J\x9b"}),
    "redirect": Reply(302, headers={"Location": f"http://{MARK}\x1b[2J\x9b/"}),
    "index": Reply(
        200,
        json.dumps({"schemaVersion": 2, "mediaType": TEXT, "manifests": [{TEXT: TEXT}]}).encode(),
        {"Content-Type": media.INDEX},
    ),
}


@pytest.mark.parametrize("verbose", [[], ["-v"]], ids=["", "verbose"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_what_a_registry_answers(tmp_path: Path, kind: str, verbose: list[str]) -> None:
    def answer(_request: Request, _reply: Reply) -> Reply:
        return ANSWERS[kind]

    with serving(FaultyRegistry()) as registry:
        registry.on("/manifests/", answer)
        argv = ["image", "pull", f"{registry.host}/x:1"]
        argv += ["--insecure-registries", registry.host, *verbose]
        shown = on_terminal(argv, IG_PY_STORE=str(tmp_path / "store"))
    assert acting(shown) == []
    assert b"Error" in shown
