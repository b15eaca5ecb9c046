"""``image build``: a gadget's directory in, a packed image out (docs/building.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py import yamlsafe
from ig_py.errors import BuildError, UsageError
from ig_py.host.scratch import base, new_file, scratch_dir
from ig_py.toolchain.buildfile import BuildFile, read_build_file
from ig_py.toolchain.compile import ARCHITECTURES, compile_object
from ig_py.toolchain.options import BuildOptions, Built
from ig_py.toolchain.process import ending
from ig_py.toolchain.sources import read_made, read_source, source_place

if TYPE_CHECKING:
    from ig_py.oci.pack import GadgetFiles, PackedImage

_EPOCH_REMEDY = "give seconds since 1970, or unset it"
_EPOCH = re.compile(r"[0-9]{1,12}\Z")


def build_gadget(options: BuildOptions) -> PackedImage:
    """Build the image of a gadget.

    When it fails, nothing is left behind: neither objects in ``output`` nor a changed metadata
    file.

    Raises:
        BuildError: A source does not compile, a tool is missing, or a file cannot be written.
        MetadataError: Gadget.yaml or build.yaml is not valid, or does not fit the object.
        ObjectError: An object is malformed.
        UsageError: Options do not go together.
    """
    from ig_py.oci.pack import pack
    from ig_py.version import user_version

    created = created_now()
    root, output = _directories(options)
    file = read_build_file(root, options.file, options.log)
    if options.btfgen and options.btfhub_archive is None:
        raise UsageError(
            "building with --btfgen: it requires --btfhub-archive",
            remedy="give a checkout of btfhub-archive",
        )

    with _scratch() as scratch:
        built = _make(options, root, file, scratch)
        files = _files(built, root, file, scratch)
        objects = {arch: raw for arch, given in files.items() if (raw := given.ebpf) is not None}
        wasm = next((given.wasm for given in files.values()), None)
        metadata = _metadata(options, root, file, objects, wasm)
        image = pack(
            files,
            metadata,
            builder_version=user_version(),
            created=created,
        )
        if output is not None:
            _publish(built, files, output)
    if options.update_metadata and metadata is not None:
        with source_place(root, file.metadata, "metadata") as place:
            _replace(place, metadata, file.metadata)
    return image


def created_now() -> str:
    """Time of creation, RFC 3339: of SOURCE_DATE_EPOCH in UTC, else now in local time.

    Raises:
        BuildError: The variable is not a number of seconds.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        text = datetime.now().astimezone().isoformat(timespec="seconds")
        return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
    if not _EPOCH.match(epoch):
        raise BuildError(
            f"reading SOURCE_DATE_EPOCH: {epoch!r} is not a number of seconds", remedy=_EPOCH_REMEDY
        )
    try:
        moment = datetime.fromtimestamp(int(epoch), UTC)
    except (OverflowError, ValueError, OSError):
        raise BuildError(
            f"reading SOURCE_DATE_EPOCH: {epoch} is too large", remedy=_EPOCH_REMEDY
        ) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _directories(options: BuildOptions) -> tuple[Path, Path | None]:
    path = Path(options.path)
    if not path.is_dir():
        what = "not a directory" if path.exists() else "no such directory"
        raise BuildError(f"building {path}: {what}")
    if options.output is None:
        return path.resolve(), None
    output = Path(options.output)
    if not output.is_dir():
        raise BuildError(
            f"building {path}: output {output}: no such directory",
            remedy="make it with mkdir",
        )
    return path.resolve(), output.resolve()


def _make(options: BuildOptions, root: Path, file: BuildFile, scratch: Path) -> Built:
    if options.builder_image is not None:
        from ig_py.toolchain.container import build_in_container

        return build_in_container(options, root, file, scratch)
    return _make_here(options, root, file, scratch)


def _make_here(options: BuildOptions, root: Path, file: BuildFile, scratch: Path) -> Built:
    from ig_py.toolchain.clang import require_clang

    objects: dict[str, Path] = {}
    if file.ebpf_source is not None:
        clang = require_clang()
        source = file.ebpf_source
        objects = {arch: scratch / f"{arch}.bpf.o" for arch in options.architectures}

        def job(arch: str) -> str:
            return compile_object(
                clang, root, source, arch, objects[arch], log=options.log, debug=options.debug
            )

        with ThreadPoolExecutor(max_workers=len(objects)) as pool:
            try:
                outputs = list(pool.map(job, objects))
            except BaseException:
                # The pool waits for its threads: none of them may begin another tool.
                with ending():
                    pool.shutdown(cancel_futures=True)
                raise
        # The warnings of one architecture are shown: those of the others are nearly always equal.
        if outputs[0].strip():
            options.log(outputs[0])
    wasm = None
    if file.wasm is not None:
        from ig_py.toolchain.wasm import build_wasm

        wasm = build_wasm(root, file.wasm, scratch, options.debug)
    btfgen: dict[str, Path] = {}
    if options.btfgen and objects:
        from ig_py.toolchain.btfgen import build_btfgen

        assert options.btfhub_archive is not None
        btfgen = build_btfgen(Path(options.btfhub_archive), objects, scratch, options.debug)
    return Built(objects, wasm, btfgen)


def _metadata(
    options: BuildOptions,
    root: Path,
    file: BuildFile,
    objects: dict[str, bytes],
    wasm: bytes | None,
) -> bytes | None:
    from ig_py.toolchain import checks

    source = file.metadata
    obj = next(iter(objects.values()), None)
    metadata = read_source(root, source, "metadata", yamlsafe.MAX_BYTES)
    if metadata is not None and (options.validate_metadata or options.update_metadata):
        checks.check_metadata(metadata, source, obj, options.log)
    if options.update_metadata:
        from ig_py.toolchain.update import update_metadata

        if obj is None:
            raise BuildError(
                f"updating {source}: the gadget has no eBPF object",
                remedy="leave out --update-metadata",
            )
        metadata = update_metadata(metadata, source, obj)
        checks.check_metadata(metadata, source, obj, options.log)
    if options.validate_metadata and obj is not None:
        for remark in checks.remarks(metadata or b"", source, obj, wasm):
            options.log(remark)
    return metadata


def _files(built: Built, root: Path, file: BuildFile, scratch: Path) -> dict[str, GadgetFiles]:
    from ig_py.oci import limits
    from ig_py.oci.pack import GadgetFiles
    from ig_py.toolchain.wasm import check_module

    wasm = None
    if built.wasm is not None and file.wasm is not None:
        if built.wasm == root / file.wasm:
            wasm = read_source(root, file.wasm, "wasm file", limits.MAX_PROGRAM)
        else:
            wasm = read_made(scratch, built.wasm, limits.MAX_PROGRAM)
        if wasm is not None:
            check_module(wasm, file.wasm)
    return {
        arch: GadgetFiles(
            ebpf=_made(scratch, built.objects.get(arch), limits.MAX_PROGRAM),
            wasm=wasm,
            btfgen=_made(scratch, built.btfgen.get(arch), limits.MAX_LAYER),
        )
        for arch in ARCHITECTURES
    }


def _made(scratch: Path, path: Path | None, most: int) -> bytes | None:
    return read_made(scratch, path, most) if path is not None else None


def _publish(built: Built, files: dict[str, GadgetFiles], output: Path) -> None:
    written = [(path, files[arch].ebpf) for arch, path in built.objects.items()]
    written += [(path, files[arch].btfgen) for arch, path in built.btfgen.items()]
    if built.wasm is not None:
        written.append((built.wasm, files[ARCHITECTURES[0]].wasm))
    for path, content in written:
        if content is not None:
            _replace(output / path.name, content, str(output / path.name))


def _replace(path: Path, content: bytes, shown: str) -> None:
    """Write *path* whole or not at all; it belongs to the owner of its directory."""
    owner = path.parent.stat()
    try:
        with new_file(path, 0o644) as file:
            file.write(content)
            if os.geteuid() == 0:
                os.chown(file.fileno(), owner.st_uid, owner.st_gid)
    except OSError as e:
        raise BuildError(f"writing {shown}: {e.strerror or e}") from None


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory for what the tools write.

    Raises:
        BuildError: It cannot be made.
    """
    with ExitStack() as stack:
        try:
            path = stack.enter_context(scratch_dir())
        except OSError as e:
            raise BuildError(
                f"making a temporary directory in {base()}: {e.strerror or e}",
                remedy="name a writable directory with TMPDIR",
            ) from None
        yield path
