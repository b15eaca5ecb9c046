"""Probes in Docker's containers that start while a gadget runs: the engine tells of them before
their runtime has made them. ``IG_PY_LATE``: how many."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from support.engine import needed_engine
from support.gadget_format import GADGETS
from support.root_gadget import image_tar
from support.root_trees import PROGRAM, make_tree
from support.running_gadget import of_docker
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "uprobe", "ringbuf", "clang", "engine"),
    pytest.mark.timeout(300),
]

CONTAINERS = int(os.environ.get("IG_PY_LATE", "20"))
IMAGE = "ig-py-late:probes"


def test_probes_in_containers_that_start_late(tmp_path: Path) -> None:
    gadget_image = str(image_tar(tmp_path / "gadget", GADGETS / "user_functions"))
    tree = make_tree(tmp_path / "tree", "usual", "user_functions", tmp_path)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tree, arcname="/")
    names = {f"ig-py-late-{number}" for number in range(CONTAINERS)}
    with (
        needed_engine(tmp_path / "engine") as engine,
        contextlib.closing(engine.client()) as client,
    ):
        name, tag = IMAGE.split(":")
        client.api.import_image_from_data(packed.getvalue(), repository=name, tag=tag)
        with of_docker(tmp_path / "run", engine.socket, gadget_image) as gadget:
            gadget.wait_running()
            made = [
                client.containers.run(
                    IMAGE, [PROGRAM, "repeat", "50"], name=name, network_mode="none", detach=True
                )
                for name in sorted(names)
            ]

            def seen() -> set[str]:
                return {e["runtime"]["containerName"] for e in gadget.events()}

            wait_for(lambda: seen() >= names, "events of every container", 20)
            assert gadget.end() == 0
        for container in made:
            container.remove(force=True)
    assert seen() == names
    assert "not attached" not in gadget.err
