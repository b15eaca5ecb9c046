"""Limits on untrusted image content, in bytes unless said otherwise."""

from __future__ import annotations

from ig_py.oci import media

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

MAX_DOCUMENT = 4 * MIB
"""An index or manifest; registries commonly have the same limit."""
MAX_STORE_INDEX = 64 * MIB
"""``index.json`` of a store, which grows with the number of images."""
MAX_DEPTH = 32
"""Nesting of a JSON document."""
MAX_VALUES = 1 << 17
"""Values of a JSON document, by its commas, colons and brackets, those in texts included."""
MAX_LAYOUT_VALUES = 1 << 18
"""The same of the ``index.json`` of an image layout or archive that is no store."""
MAX_LAYOUT_IMAGES = 20_000
"""Entries of such an ``index.json``."""
MAX_INDEX_MANIFESTS = 256
"""Entries of one image index."""
MAX_INDEX_NESTING = 3
"""Indexes inside indexes."""
MAX_LAYERS = 128
"""Layers of one manifest."""
MAX_ANNOTATIONS = 512
"""Annotations of one document or descriptor."""

MAX_CONFIG = 1 * MIB
"""A config blob: gadget.yaml."""
MAX_PROGRAM = 64 * MIB
"""An eBPF object or a wasm module."""
MAX_LAYER = 256 * MIB
"""Any other layer."""
MAX_IMAGE = 1 * GIB
"""All blobs of one image together."""

MAX_ARCHIVE = 8 * GIB
"""An image archive."""
MAX_ARCHIVE_MEMBERS = 20_000
"""Members of an image archive."""
MAX_PAX_RECORDS = 1 << 16
"""Records of all extended headers of an image archive."""

MAX_TOKEN = 64 * KIB
"""The answer of a token service, or the body of an error."""
MAX_AUTH_FILE = 1 * MIB
"""A docker config.json."""

_LAYERS = {
    media.EBPF_LAYER: MAX_PROGRAM,
    media.WASM_LAYER: MAX_PROGRAM,
    media.BTFGEN_LAYER: MAX_LAYER,
}


def layer_limit(media_type: str) -> int:
    """Largest layer of this media type that is read."""
    return _LAYERS.get(media_type, MAX_LAYER)


def human(size: int) -> str:
    """``1234567`` → ``1.2 MiB``."""
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
