"""How to find an image and whether to trust it: the options of :func:`ig_py.resolver.resolve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ig_py.host.architecture import host_architecture
from ig_py.oci.trust.keys import UPSTREAM
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py.oci.staging import Progress
    from ig_py.oci.store import Store

PULL_POLICIES = ("always", "missing", "never")


def _ignore(_message: str) -> None:
    pass


@dataclass(frozen=True)
class ResolveOptions:
    """Options of :func:`ig_py.resolver.resolve`; :mod:`ig_py.oci.policy` may tighten them.

    Attributes:
        arch: Architecture as image indexes name it (``amd64``). Default: this machine's.
        pull: One of :data:`PULL_POLICIES`. Default: ``missing``.
        verify_image: Refuse an image without a valid signature. Default: True.
        insecure_registries: Registries (``host:port``) to talk to over plain HTTP.
        authfile: Credentials in docker's config.json format; None: the default files.
        allowed_gadgets: Images that may be used (:func:`ig_py.oci.verification.check_allowed`);
            empty: all.
        disallow_pulling: Never ask a registry.
        build_all: Build a source directory for every architecture, not only for *arch*.
        validate_metadata: Check the gadget.yaml of a source directory.
        public_keys: PEM texts, files, or :data:`UPSTREAM` for the built-in key (the default).
        notation_certificates: PEM texts or files of Notary Project trust anchors.
        notation_policy: Notary Project trust policy, a JSON text or file.
        required_gadgets: Further lists like *allowed_gadgets*; each must allow the image.
        store: Local store; None opens the default one.
        on_message: Called with each warning.
        progress: Makes a context for one download; it yields an object that is told about
            the bytes (:class:`~ig_py.oci.staging.Progress`), or None.
    """

    arch: str = field(default_factory=host_architecture)
    pull: str = "missing"
    verify_image: bool = True
    insecure_registries: Sequence[str] = ()
    authfile: str | None = None
    allowed_gadgets: Sequence[str] = ()
    disallow_pulling: bool = False
    build_all: bool = True
    validate_metadata: bool = True
    public_keys: Sequence[str] = (UPSTREAM,)
    notation_certificates: Sequence[str] = ()
    notation_policy: str = ""
    required_gadgets: Sequence[Sequence[str]] = ()
    store: Store | None = None
    on_message: Callable[[str], None] = _ignore
    progress: Callable[[], AbstractContextManager[Progress | None]] = nullcontext

    @property
    def online(self) -> bool:
        """May a registry be asked for content that the store lacks?"""
        return not self.disallow_pulling and self.pull != "never"
