"""May this image run? Fails closed: what cannot be verified does not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ig_py.errors import VerificationError
from ig_py.oci.artifact import Origin

REMEDY = (
    "this version verifies no signatures; run the image unverified with --verify-image=false, "
    "or the gadget from its source directory"
)
OFF = "image signature verification is off"


def check_signature(
    reference: str,
    digest: str,
    origin: Origin,
    *,
    verify_image: bool,
    on_message: Callable[[str], None],
) -> None:
    """Raise :class:`VerificationError` unless the image *digest* may be used.

    A gadget's source directory is its owner's and needs no signature. With
    *verify_image* off, *on_message* is told so, once.
    """
    if origin == "source":
        return
    if not verify_image:
        on_message(OFF)
        return
    raise VerificationError(
        f'verifying image "{reference}" ({digest}): no verification method available',
        remedy=REMEDY,
    )


def may_be_allowed(normalized: str, allowed: Sequence[str]) -> bool:
    """False when no entry can match, whatever the image's digest turns out to be."""
    entries = [entry for entry in allowed if entry]
    return not entries or any(_names(entry, normalized) or "@" in entry for entry in entries)


def check_allowed(
    reference: str, normalized: str, repository: str, digest: str, allowed: Sequence[str]
) -> None:
    """Raise :class:`VerificationError` unless an entry of *allowed* (empty: all) matches:
    the full reference, a prefix of it that ends in ``*``, or ``repository@digest``.

    Empty entries match nothing; short names never match (spec oci-metadata §3.2).
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
