"""Every error that ig-py raises on purpose, as a tree; docs/errors.md says what to do about each.

::

    IgPyError
    ├── UsageError
    ├── InvalidReference
    ├── StoreError
    │   └── ImageNotFound
    │       └── BlobMissing            ig_py.oci.source
    ├── RegistryError
    │   ├── RegistryUnavailable
    │   ├── RegistryDenied
    │   └── RegistryNotFound
    ├── IntegrityError
    │   └── Damaged                    ig_py.oci.digest
    ├── VerificationError
    │   └── NoSignature                ig_py.oci.trust.model
    ├── LimitError
    ├── FileRefused                    ig_py.host.safe_open
    ├── MetadataError
    ├── ObjectError
    ├── BuildError
    │   └── ToolFailed                 ig_py.toolchain.process
    ├── KernelError
    │   └── VerifierRejected
    ├── ContainerError
    │   ├── HostReadError              ig_py.host.files
    │   ├── ProcessGone                ig_py.host.proc
    │   └── EngineError                ig_py.containers.engines.engine
    │       ├── NoSuchObject           ig_py.containers.engines.engine
    │       ├── NoAnswer               ig_py.containers.engines.engine
    │       └── Unimplemented          ig_py.containers.engines.grpc_engine
    └── OutputError

A class is here when callers of several packages tell it from others. One that names its module
is for the callers of that module.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

MAX_LISTED = 20
"""Names that a message lists."""
MAX_LISTED_CHARACTERS = 100
"""Characters of each of these names."""


def listed(names: Iterable[str]) -> str:
    """*names* for a message, with commas between them.

    Names come from images and registries, so of many names it shows :data:`MAX_LISTED`, and of a
    long name :data:`MAX_LISTED_CHARACTERS` characters.
    """
    rest = iter(names)
    shown = [
        name if len(name) <= MAX_LISTED_CHARACTERS else f"{name[:MAX_LISTED_CHARACTERS]}..."
        for name in islice(rest, MAX_LISTED)
    ]
    more = sum(1 for _ in rest)
    return ", ".join(shown) + (f" and {more} more" if more else "")


class IgPyError(Exception):
    """The root of the tree; raised itself by nothing.

    Attributes:
        message: One line: what was attempted, on what, and why it failed. It may hold text from
            an image or a registry: the code that prints it escapes control characters.
        remedy: What to do; empty when there is nothing to recommend.
        detail: More than one line, such as the verifier's log; ``-v`` shows it. May be empty.
    """

    def __init__(self, message: str, *, remedy: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class UsageError(IgPyError):
    """A flag, an argument, a parameter, or a file of settings, keys or policy is not valid."""


class InvalidReference(IgPyError):
    """The name of an image does not follow the grammar of references."""


class StoreError(IgPyError):
    """The store, a layout or an archive cannot be read, written or locked."""


class ImageNotFound(StoreError):
    """The store has no image, or a layout no tag, of that name."""


class RegistryError(IgPyError):
    """A registry cannot be reached or does not answer as the distribution specification says."""


class RegistryUnavailable(RegistryError):
    """A registry breaks off or is busy, and repeating did not help: later it may."""


class RegistryDenied(RegistryError):
    """A registry refuses the credentials or the lack of them, or pulling is not allowed here."""


class RegistryNotFound(RegistryError):
    """A registry has no such repository, tag or digest, or hides it from this user."""


class IntegrityError(IgPyError):
    """Content is malformed, or does not have its digest, size or declared type."""


class VerificationError(IgPyError):
    """No signature holds, or the image is not among those that are allowed."""


class LimitError(IgPyError):
    """Untrusted input exceeds a named limit."""


class MetadataError(IgPyError):
    """gadget.yaml, build.yaml or a manifest of gadgets is malformed, or does not fit the object."""


class ObjectError(IgPyError):
    """An eBPF object or wasm module is malformed, or an image has nothing that could run."""


class BuildError(IgPyError):
    """A gadget does not compile, cannot be packed, or lacks a source or a tool."""


class KernelError(IgPyError):
    """The kernel lacks something, refuses to load or attach it, or ig-py has no right to it."""


class VerifierRejected(KernelError):
    """The kernel's verifier rejects a program; ``detail`` is its log."""


class ContainerError(IgPyError):
    """A container runtime that was named cannot be used, or the host cannot be seen."""


class OutputError(IgPyError):
    """Events cannot be rendered as asked, or standard output cannot be written."""
