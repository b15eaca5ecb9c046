"""Image references: parsing and normalisation (docs/reference/image-format.md#references)."""

from __future__ import annotations

import re

from ig_py.errors import InvalidReference
from ig_py.oci import digest as digests
from ig_py.records import dataclass

DEFAULT_DOMAIN = "ghcr.io"
DEFAULT_PREFIX = "inspektor-gadget/gadget/"
DEFAULT_TAG = "latest"
MAX_NAME = 255
MAX_INPUT = 1024

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)


@dataclass(frozen=True)
class Reference:
    """A normalised reference; *tag* and *digest* may both be set, never both empty."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def short_repository(self) -> str:
        """The repository as ``image list`` shows it: without what :func:`normalize` adds."""
        return self.repository.removeprefix("/".join(_default()))

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return self.repository + tag + digest

    def with_digest(self, digest: str) -> str:
        """``repository:tag@digest``, the form of success messages."""
        return f"{self.repository}:{self.tag}@{digest}"


def normalize(text: str) -> Reference:
    """Parse *text*, completed by the default domain, repository prefix and tag.

    Raises :class:`InvalidReference`, and :class:`UsageError` for a policy file that is not
    understood.
    """
    shown = text if len(text) <= MAX_INPUT else text[:64] + "…"

    def invalid(why: str = "") -> InvalidReference:
        why = f": {why}" if why else ""
        return InvalidReference(
            f'parsing normalized image "{shown}": invalid reference format{why}'
        )

    if len(text) > MAX_INPUT:
        raise invalid(f"longer than {MAX_INPUT} characters")
    domain, rest = _split_domain(text)
    name = rest.partition(":")[0]
    if name != name.lower():
        raise invalid(f"repository name ({name}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None:
        raise invalid()
    ref = Reference(match["domain"], match["path"], match["tag"] or "", match["digest"] or "")
    if len(ref.repository) > MAX_NAME:
        raise invalid(f"repository name must not be more than {MAX_NAME} characters")
    if ref.digest and not digests.is_valid(ref.digest):
        raise invalid("unsupported digest")
    if not ref.tag and not ref.digest:
        ref = Reference(ref.domain, ref.path, DEFAULT_TAG)
    return ref


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain = first
        if domain == DEFAULT_DOMAIN and "/" not in rest:
            rest = DEFAULT_PREFIX + rest
    else:
        domain, prefix = _default()
        rest = text if slash else prefix + text
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    return domain, rest


def _default() -> tuple[str, str]:
    """(domain, prefix) of names without a registry."""
    from ig_py.oci.places import default_registry

    place = default_registry()
    return (place.host, place.prefix) if place else (DEFAULT_DOMAIN, DEFAULT_PREFIX)


def parse_stored(name: str) -> Reference | None:
    """A reference as a store lists it; None when it is not one (signature tags)."""
    match = _REFERENCE.fullmatch(name) if len(name) <= MAX_INPUT else None
    if match is None:
        return None
    ref = Reference(match["domain"], match["path"], match["tag"] or "", match["digest"] or "")
    return ref if ref.tag or ref.digest else None
