"""The Dockerfile builds what set-up builds: the same packages, and all the files it copies."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
NOT_FOR_WHEELS = {"lld", "zstd", "libpcap0.8"}
"""Building gadgets needs the first two, for wasm modules and kernel packages; running the last."""


def packages(name: str) -> set[str]:
    lines = (ROOT / f"scripts/packages/{name}.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def stages() -> list[str]:
    """From the first FROM on."""
    return re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]


def test_it_builds_with_the_packages_of_set_up() -> None:
    assert packages("build") | packages("rust") <= set(stages()[0].split()) | NOT_FOR_WHEELS


def test_the_final_image_has_no_compiler() -> None:
    assert "libpcap0.8" in stages()[-1].split()
    assert not {"build-essential", "clang", "cargo-web", "python3-venv"} & set(stages()[-1].split())


def test_the_context_has_all_copied_files() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    given = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.M)
    sources = {source for line in copied for source in line.split()}
    assert {source.rstrip("*") for source in sources} <= given
    assert all((ROOT / source).exists() for source in sources if "*" not in source)


def test_the_base_is_named_once() -> None:
    assert len(re.findall(r"debian:\S+", DOCKERFILE)) == 1
    assert all(stage.startswith("${BASE}") for stage in stages())
