"""Which registry a name means, and which others have the same: mirrors (policy files)."""

from __future__ import annotations

from ig_py.oci import policy
from ig_py.oci.policy import Place
from ig_py.oci.reference import Reference
from ig_py.records import replace


def default_registry() -> Place | None:
    """Where names without a registry are, when a policy says so. Raises :class:`UsageError`."""
    for known in policy.policies():
        if known.default_registry is not None:
            return known.default_registry
    return None


def places(reference: Reference) -> list[Reference]:
    """Where to ask for an image: its mirrors, then its own registry.

    The first policy that knows of mirrors counts. Raises :class:`UsageError`.
    """
    for known in policy.policies():
        mirrors = known.mirrors.get(reference.domain)
        if mirrors:
            return [*(_moved(reference, mirror) for mirror in mirrors), reference]
    return [reference]


def _moved(reference: Reference, place: Place) -> Reference:
    return replace(reference, domain=place.host, path=place.prefix + reference.path)
