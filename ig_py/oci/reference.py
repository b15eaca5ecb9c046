"""Image references: parsing and normalisation (docs/reference/image-format.md#references)."""

from __future__ import annotations

import re

from ig_py.errors import InvalidReference
from ig_py.oci import digest as digests
from ig_py.records import dataclass

DEFAULT_TAG = "latest"
MAX_NAME = 255
"""Characters of a repository with its registry."""
MAX_INPUT = 1024
"""Characters of a reference."""

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)


@dataclass(frozen=True)
class RegistryLocation:
    """A part of a registry: *host* (``host[:port]``) and the prefix of the repositories' paths,
    which is empty or ends in a slash.
    """

    host: str
    prefix: str = ""


DEFAULT_REGISTRY = RegistryLocation("ghcr.io", "inspektor-gadget/gadget/")
"""Where ``ig`` looks for a name without registry, such as ``trace_exec``."""


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

    def short_repository(self, default: RegistryLocation = DEFAULT_REGISTRY) -> str:
        """The repository as ``image list`` shows it: without *default*."""
        return self.repository.removeprefix(f"{default.host}/{default.prefix}")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return self.repository + tag + digest

    def with_digest(self, digest: str) -> str:
        """``repository:tag@digest``, the form of success messages."""
        return f"{self.repository}:{self.tag}@{digest}"


def normalize(text: str, default: RegistryLocation = DEFAULT_REGISTRY) -> Reference:
    """Parse *text*; *default* completes a name without registry, ``latest`` one without tag.

    What a user types is completed by the default registry of this machine:
    :func:`ig_py.oci.policy.default_registry`.

    Raises:
        InvalidReference: *text* is no image reference.
    """
    shown = text if len(text) <= MAX_INPUT else text[:64] + "…"

    def invalid(why: str = "") -> InvalidReference:
        why = f": {why}" if why else ""
        return InvalidReference(
            f'parsing normalized image "{shown}": invalid reference format{why}'
        )

    if len(text) > MAX_INPUT:
        raise invalid(f"longer than {MAX_INPUT} characters")
    domain, rest = _split_domain(text, default)
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


def _split_domain(text: str, default: RegistryLocation) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain = first
        if domain == DEFAULT_REGISTRY.host and "/" not in rest:
            rest = DEFAULT_REGISTRY.prefix + rest
    else:
        domain = default.host
        rest = text if slash else default.prefix + text
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    return domain, rest


def parse_stored(name: str) -> Reference | None:
    """Parse a full reference, as a store lists it; None for another name (a signature tag)."""
    match = _REFERENCE.fullmatch(name) if len(name) <= MAX_INPUT else None
    if match is None:
        return None
    ref = Reference(match["domain"], match["path"], match["tag"] or "", match["digest"] or "")
    return ref if ref.tag or ref.digest else None
