"""Media types and annotation keys (docs/reference/image-format.md#documents)."""

from __future__ import annotations

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"

GADGET = "application/vnd.gadget.v1+binary"
CONFIG_YAML = "application/vnd.gadget.config.v1+yaml"
EBPF_LAYER = "application/vnd.gadget.ebpf.program.v1+binary"
WASM_LAYER = "application/vnd.gadget.wasm.program.v1+binary"
BTFGEN_LAYER = "application/vnd.gadget.btfgen.v1+binary"

REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "org.opencontainers.image.created"
TITLE = "org.opencontainers.image.title"
DESCRIPTION = "org.opencontainers.image.description"
URL = "org.opencontainers.image.url"
DOCUMENTATION = "org.opencontainers.image.documentation"
SOURCE = "org.opencontainers.image.source"
BUILDER_VERSION = "io.inspektor-gadget.builder.version"
