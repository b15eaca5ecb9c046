"""Records and limits of signature verification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ig_py.errors import VerificationError
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import Manifest
from ig_py.records import dataclass

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
COSIGN_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTATION_ARTIFACT = "application/vnd.cncf.notary.signature"
ARTIFACTS = frozenset({COSIGN_ARTIFACT, BUNDLE, NOTATION_ARTIFACT})

MAX_SIGNATURES = 50
"""Signatures of one image that are read."""
MAX_SIGNATURE = 1 << 20
"""Bytes of one signature's config or layer."""
MAX_KEY_FILE = 64 << 10
"""Bytes of a key, certificate or trust policy."""


class NoSignature(VerificationError):
    """The image has no signature of a kind for which keys or certificates are given."""


@dataclass(frozen=True)
class Trust:
    """Trusted keys and certificates. *public_keys* and *certificates*: PEM texts or files;
    *policy*: Notary Project trust policy, a JSON text or file; *online*: revocation may be
    checked with the servers that trusted certificates name.
    """

    public_keys: Sequence[str] = ()
    certificates: Sequence[str] = ()
    policy: str = ""
    online: bool = False


@dataclass(frozen=True)
class Signature:
    """A manifest that signs an image. *kind*: one of :data:`ARTIFACTS`; *tag*: its tag, empty
    for a referrer.
    """

    kind: str
    descriptor: Descriptor
    manifest: Manifest
    tag: str = ""


@dataclass(frozen=True)
class Verdict:
    """A valid signature: *by* names the key or certificate. *doubts*: failed checks that the
    trust policy only logs.
    """

    by: str
    format: str
    doubts: tuple[str, ...] = ()


class SignatureSource(Protocol):
    """A source of signatures: the store, an archive, a registry."""

    name: str

    def tagged(self, tag: str) -> Descriptor | None:
        """The document with this tag."""

    def referrers(self, digest: str) -> Sequence[Descriptor]:
        """Manifests whose subject is *digest*; may list others too."""

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        """Verified content.

        Raises:
            IgPyError: It is missing, damaged, larger than *limit* bytes, or cannot be read.
        """


def tag_of(digest: str, suffix: str = "") -> str:
    """``sha256:abc`` → ``sha256-abc`` + *suffix*: the tag of an image's signatures."""
    return digest.replace(":", "-") + suffix
