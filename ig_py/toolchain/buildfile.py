"""build.yaml: which files a gadget is built from (docs/building.md#the-build-file)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ig_py import yamlsafe
from ig_py.errors import BuildError, MetadataError
from ig_py.host.safe_open import FileRefused, read_argument
from ig_py.records import dataclass
from ig_py.toolchain.sources import has_source, read_source
from ig_py.toolchain.wasm import SUFFIXES

DEFAULT_FILE = "build.yaml"
DEFAULT_SOURCE = "program.bpf.c"
DEFAULT_METADATA = "gadget.yaml"
_KEYS = ("ebpfsource", "wasm", "metadata")


@dataclass(frozen=True)
class BuildFile:
    """Paths relative to the gadget's directory; None for what the gadget does not have.

    ``metadata`` is set also while the file does not exist: it may be created.
    """

    ebpf_source: str | None
    wasm: str | None
    metadata: str


def read_build_file(root: Path, file: str | None, log: Callable[[str], None]) -> BuildFile:
    """The build file of the gadget in *root*.

    *file* is relative to the working directory and must exist; None stands for
    ``build.yaml`` in *root*, which may be missing.

    Raises:
        BuildError: It cannot be read.
        MetadataError: It is not valid; the error names the line.
    """
    path = root / DEFAULT_FILE if file is None else Path(file)
    raw = _given(path) if file is not None else _of_gadget(root)
    values = _values(raw, str(path), log) if raw is not None else {}

    source: str | None = values.get("ebpfsource", DEFAULT_SOURCE)
    wasm = values.get("wasm") or None
    metadata = values.get("metadata") or DEFAULT_METADATA

    if not source or not has_source(root, source, "source file"):
        if source != DEFAULT_SOURCE:
            raise BuildError(
                f"building {root}: source file {source!r} not found",
                remedy=f"correct ebpfsource in {path.name}",
            )
        source = None
    if wasm is not None:
        if Path(wasm).suffix not in SUFFIXES:
            raise BuildError(
                f"building {root}: unsupported wasm file type: {wasm}",
                remedy=f"known are {', '.join(SUFFIXES)}",
            )
        if not has_source(root, wasm, "wasm file"):
            raise BuildError(
                f"building {root}: wasm file {wasm!r} not found",
                remedy=f"correct wasm in {path.name}",
            )
    if not has_source(root, metadata, "metadata") and source is None and wasm is None:
        raise BuildError(
            f"building {root}: nothing to build",
            remedy=f"add an eBPF source ({DEFAULT_SOURCE}), metadata ({DEFAULT_METADATA}) "
            f"or a wasm module, or name them in {DEFAULT_FILE}",
        )
    return BuildFile(source, wasm, metadata)


def _of_gadget(root: Path) -> bytes | None:
    return read_source(root, DEFAULT_FILE, "build file", yamlsafe.MAX_BYTES)


def _given(path: Path) -> bytes:
    try:
        return read_argument(path, most=yamlsafe.MAX_BYTES)
    except FileRefused as e:
        raise BuildError(f"reading build file {path}: {e.reason}") from None


def _values(raw: bytes, path: str, log: Callable[[str], None]) -> dict[str, str]:
    document, lines = yamlsafe.load(raw, path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise MetadataError(f"{lines.at(())}: a build file is a mapping")
    values: dict[str, str] = {}
    for key, value in document.items():
        if key not in _KEYS:
            log(f"{lines.at((key,))}: unknown key {key!r} ignored; known are {', '.join(_KEYS)}")
            continue
        if value is not None and not isinstance(value, str):
            raise MetadataError(f"{lines.at((key,))}: {key} must be a path")
        text = (value or "").strip()
        if text.startswith("-"):
            raise MetadataError(f"{lines.at((key,))}: flags are not accepted: {text!r}")
        if text.startswith("@"):
            raise MetadataError(f"{lines.at((key,))}: response files are not accepted: {text!r}")
        values[key] = text
    return values
