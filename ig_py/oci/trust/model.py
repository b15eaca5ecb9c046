"""What the parts of verification share."""

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
"""Signatures looked at for one image."""
MAX_SIGNATURE = 1 << 20
"""Bytes of one signature's config or layer."""
MAX_KEY_FILE = 64 << 10
"""Bytes of a key, certificate or trust policy."""


class NoSignature(VerificationError):
    """The image has no signature that the given keys or certificates could be tried on."""


@dataclass(frozen=True)
class Trust:
    """Whom to believe. *public_keys* and *certificates* are each PEM text or a file's path;
    *policy* is a notation trust policy, JSON text or a file's path; *online*: servers that
    trusted certificates name may be asked whether they were revoked.
    """

    public_keys: Sequence[str] = ()
    certificates: Sequence[str] = ()
    policy: str = ""
    online: bool = False


@dataclass(frozen=True)
class Signature:
    """A manifest that signs an image. *kind*: one of :data:`ARTIFACTS`; *tag* is what names
    it, empty for a referrer.
    """

    kind: str
    descriptor: Descriptor
    manifest: Manifest
    tag: str = ""


@dataclass(frozen=True)
class Verdict:
    """A signature that holds: made *by* which key or certificate, in which format. *doubts*:
    what a trust policy wants to be told of, and lets pass.
    """

    by: str
    format: str
    doubts: tuple[str, ...] = ()


class SignatureSource(Protocol):
    """Where signatures are looked for: the store, an archive, a registry."""

    name: str

    def tagged(self, tag: str) -> Descriptor | None:
        """The document of this tag."""

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
