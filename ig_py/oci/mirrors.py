"""Mirrors of registries, which policy files name (:mod:`ig_py.oci.policy`)."""

from __future__ import annotations

from ig_py.oci import policy
from ig_py.oci.reference import Reference, RegistryLocation
from ig_py.records import replace


def pull_order(reference: Reference) -> list[Reference]:
    """Where to pull *reference* from: from each mirror of its registry, then from the registry.

    The first policy file that names mirrors of this registry decides.

    Raises:
        UsageError: A policy file cannot be read or is not valid.
    """
    for known in policy.policies():
        mirrors = known.mirrors.get(reference.domain)
        if mirrors:
            return [*(_at(mirror, reference) for mirror in mirrors), reference]
    return [reference]


def _at(mirror: RegistryLocation, reference: Reference) -> Reference:
    return replace(reference, domain=mirror.host, path=mirror.prefix + reference.path)
