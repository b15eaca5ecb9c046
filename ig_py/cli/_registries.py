"""The registries that flags name."""

from __future__ import annotations

from collections.abc import Iterable

from ig_py.errors import UsageError


def insecure_registries(hosts: Iterable[str]) -> tuple[str, ...]:
    """The registries in the values of ``--insecure-registries``.

    Raises:
        UsageError: One is not ``HOST[:PORT]``: it would never be that of an image.
    """
    found = tuple(host for host in (host.strip() for host in hosts) if host)
    if found:
        from ig_py.oci.login import is_registry

        for host in found:
            if not is_registry(host):
                raise UsageError(
                    f'--insecure-registries: "{host[:200]}" is no registry',
                    remedy="write HOST or HOST:PORT, as in the name of an image",
                )
    return found
