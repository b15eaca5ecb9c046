"""May this image run? An image that cannot be verified does not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ig_py.errors import VerificationError
from ig_py.oci.artifact import Descriptor

if TYPE_CHECKING:
    from ig_py.oci.trust.model import SignatureSource, Trust, Verdict

OFF = "image signature verification is off"


def check_signature(
    reference: str,
    repository: str,
    image: Descriptor,
    signatures: Callable[[], SignatureSource],
    trust: Trust,
    *,
    pull: Callable[[], None] | None = None,
) -> Verdict:
    """Verify a signature of *image*, the descriptor that will be loaded.

    *signatures* opens the local signatures. If there is none, *pull* adds those of the
    registry (None: it cannot) and *signatures* is called again.

    Raises:
        VerificationError: No signature is valid.
    """
    from ig_py.oci.trust.model import NoSignature
    from ig_py.oci.trust.verify import Verifier

    doing = f'verifying image "{reference}" ({image.digest})'
    try:
        verifier = Verifier(trust)
        try:
            return verifier.verify(signatures(), image, repository)
        except NoSignature:
            if pull is None:
                raise
            pull()
            return verifier.verify(signatures(), image, repository)
    except VerificationError as err:
        raise type(err)(f"{doing}: {err.message}", remedy=err.remedy) from err.__cause__


def may_be_allowed(normalized: str, allowed: Sequence[str]) -> bool:
    """False when no entry can match, whatever the image's digest turns out to be."""
    entries = [entry for entry in allowed if entry]
    return not entries or any(_names(entry, normalized) or "@" in entry for entry in entries)


def check_allowed(
    reference: str, normalized: str, repository: str, digest: str, allowed: Sequence[str]
) -> None:
    """Check that an entry of *allowed* (empty: all) matches the image: the full reference, a prefix
    of it that ends in ``*``, or ``repository@digest``.

    Empty entries match nothing; short names never match
    (docs/reference/image-format.md#allowed-images).

    Raises:
        VerificationError: None does.
    """
    entries = [entry for entry in allowed if entry]
    if not entries:
        return
    pinned = {f"{repository}@{digest}", f"{normalized}@{digest}"} if repository else set()
    if any(entry in pinned or _names(entry, normalized) for entry in entries):
        return
    raise not_allowed(reference, entries)


def not_allowed(reference: str, allowed: Sequence[str]) -> VerificationError:
    return VerificationError(
        f"{reference} is not part of allowed gadgets: {', '.join(filter(None, allowed))}"
    )


def _names(entry: str, normalized: str) -> bool:
    if entry.endswith("*"):
        return normalized.startswith(entry[:-1])
    return entry == normalized
