"""Images named by a path: OCI image layouts and image archives, one image chosen among several.

These texts are paths, all others are references (``image.tar`` is a reference, as in ``ig``):
``.``, ``..``, ``./x``, ``../x``, ``/x``, ``~``, ``~/x``, ``oci:PATH``, ``oci-archive:PATH``.
``PATH:TAG`` chooses an image by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py.errors import ImageNotFound, InvalidReference, StoreError, listed
from ig_py.oci import media
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import Index
from ig_py.oci.reference import RegistryLocation, normalize, parse_stored
from ig_py.oci.source import BLOBS, INDEX_FILE, LAYOUT_FILE, LayoutSource

if TYPE_CHECKING:
    from ig_py.oci.archive import ArchiveSource

SOURCE_FILES = ("build.yaml", "gadget.yaml", "program.bpf.c")
"""A directory with one of these and no image layout holds a gadget's sources."""

_LAYOUT_SCHEME = "oci:"
_ARCHIVE_SCHEME = "oci-archive:"
_PATH = re.compile(r"(\.|\.\.|~)(/.*)?|/.*", re.DOTALL)


def is_path(text: str) -> bool:
    """Does *text* name a path rather than a reference?"""
    return text.startswith((_LAYOUT_SCHEME, _ARCHIVE_SCHEME)) or bool(_PATH.fullmatch(text))


def split_path(text: str) -> tuple[Path, str]:
    """Split ``PATH:TAG`` into path and tag; the tag is empty when all of *text* is a path.

    Raises:
        InvalidReference: *text* has no path.
        StoreError: No such file or directory.
    """
    path_text = text.removeprefix(_ARCHIVE_SCHEME).removeprefix(_LAYOUT_SCHEME)
    if not path_text or "\0" in path_text:
        raise InvalidReference(f'"{text}" names no path')
    candidates = [(path_text, "")]
    # A tag may be a full reference, which has slashes and perhaps a port of its own.
    candidates += [(path_text[: m.start()], path_text[m.end() :])
                   for m in re.finditer(":", path_text)]  # fmt: skip
    for name, tag in candidates:
        try:
            path = Path(name).expanduser()
            if path.exists():
                return path, tag
        except (OSError, RuntimeError):
            continue
    raise StoreError(f"open {path_text}: no such file or directory")


def is_source_directory(path: Path) -> bool:
    """Is *path* a directory with a gadget's sources, and no image layout?"""
    return path.is_dir() and not _is_layout(path) and _has_any(path, SOURCE_FILES)


@contextmanager
def open_path(path: Path) -> Iterator[LayoutSource | ArchiveSource]:
    """Open the image layout or image archive at *path*.

    Raises:
        StoreError: *path* cannot be opened, or is a directory without an image layout.
        IntegrityError: *path* is no image archive.
        LimitError: The archive exceeds a limit.
    """
    if path.is_dir():
        if not _is_layout(path):
            raise StoreError(
                f"{path}: neither an OCI image layout nor a gadget's sources",
                remedy=f"a layout has {LAYOUT_FILE}, {INDEX_FILE} and {BLOBS}/; "
                f"sources have one of {', '.join(SOURCE_FILES)}",
            )
        yield LayoutSource(path)
        return
    from ig_py.oci.archive import ArchiveSource

    with ArchiveSource(path) as archive:
        yield archive


def pick(index: Index, text: str, tag: str, default: RegistryLocation) -> tuple[Descriptor, str]:
    """Choose the image named *tag*, or the only image of *index*.

    Returns its descriptor and its repository, which is empty for an image without name.
    *text* is what the user typed, for error messages; *default* completes a short *tag*.

    Raises:
        ImageNotFound: No image is named so, or several images would do.
    """
    roots = [d for d in index.manifests if d.media_type == media.INDEX]
    names = {_name(d) for d in roots} - {""}
    if tag:
        found = [d for d in roots if _is_named(_name(d), tag, default)]
        if not found:
            raise ImageNotFound(f'"{text}": no image "{tag}"', remedy=_choices(names))
    else:
        found = [d for d in roots if media.REF_NAME in d.annotations] or roots
        if not found:
            raise ImageNotFound(
                f'"{text}": there is no image index in it',
                remedy="copy images with all their architectures (skopeo copy --all)",
            )
    if len({d.digest for d in found}) > 1:
        raise ImageNotFound(
            f'"{text}": there are several images in it',
            remedy=f"choose one with PATH:TAG; {_choices(names)}",
        )
    reference = parse_stored(_name(found[0]))
    return found[0], reference.repository if reference else ""


def _is_layout(path: Path) -> bool:
    return _has_any(path, (LAYOUT_FILE, INDEX_FILE))


def _has_any(path: Path, names: tuple[str, ...]) -> bool:
    return any((path / name).exists() for name in names)


def _name(descriptor: Descriptor) -> str:
    return descriptor.annotations.get(media.REF_NAME, "")


def _is_named(name: str, tag: str, default: RegistryLocation) -> bool:
    if not name or name == tag or name.endswith((f":{tag}", f"/{tag}")):
        return bool(name)
    try:
        return str(normalize(tag, default)) == name
    except InvalidReference:
        return False


def _choices(names: set[str]) -> str:
    if not names:
        return "its images have no names"
    return f"it has {listed(sorted(names))}"
