"""The images of a store as ``image list`` shows them (docs/reference/cli.md#listing-images)."""

from __future__ import annotations

from collections.abc import Callable

from ig_py.errors import IgPyError, ImageNotFound, IntegrityError
from ig_py.host.architecture import host_architecture
from ig_py.oci import media, reader
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import Index, parse_index, parse_manifest
from ig_py.oci.reference import DEFAULT_REGISTRY, DEFAULT_TAG, RegistryLocation, parse_stored
from ig_py.oci.store import Store
from ig_py.records import dataclass


@dataclass(frozen=True)
class Row:
    """*digest* is that of the index, *created* the RFC 3339 text or empty."""

    repository: str
    tag: str
    digest: str
    created: str


def rows(
    store: Store,
    on_warning: Callable[[str], None],
    default: RegistryLocation = DEFAULT_REGISTRY,
) -> list[Row]:
    """The store's images in the order of their full references.

    Repositories are shown without *default*. Left out are signature tags, images whose
    content is missing and, with a warning, damaged images.
    """
    arch = host_architecture()
    found = []
    # Many references may stand for one image.
    known: dict[str, str] = {}
    for image in store.images():
        reference = parse_stored(image.name)
        if reference is None or image.descriptor.media_type != media.INDEX:
            continue
        try:
            digest = image.descriptor.digest
            if digest not in known:
                known[digest] = _created(store, image.descriptor, arch)
        except ImageNotFound:
            continue
        except IgPyError as err:
            on_warning(f"getting gadget image descriptor for {image.name}: {err}")
            continue
        found.append(
            Row(
                reference.short_repository(default),
                reference.tag or DEFAULT_TAG,
                digest,
                known[digest],
            )
        )
    return found


def _created(store: Store, root: Descriptor, arch: str) -> str:
    index = parse_index(store.read(root), store.describe(root))
    descriptor = _any_manifest(index, arch)
    if descriptor is None:
        return index.annotations.get(media.CREATED, "")
    manifest = parse_manifest(store.read(descriptor), store.describe(descriptor))
    return manifest.annotations.get(media.CREATED, "")


def _any_manifest(index: Index, arch: str) -> Descriptor | None:
    """The manifest of *arch*, else any: an image of other architectures is listed too."""
    try:
        return reader.select(index, arch, "")
    except IntegrityError:
        return index.manifests[0] if index.manifests else None
