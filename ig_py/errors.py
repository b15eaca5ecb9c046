"""Every error that ig-py raises on purpose.

::

    IgPyError
    ├── UsageError            a flag, argument or parameter is wrong
    ├── InvalidReference       an image reference does not parse
    ├── StoreError            the local store
    │   └── ImageNotFound
    ├── RegistryError         talking to a registry
    │   ├── RegistryDenied
    │   └── RegistryNotFound
    ├── IntegrityError        a digest, size or document is not what it claims to be
    ├── VerificationError     a signature is missing or wrong
    ├── LimitError            untrusted input exceeds a named limit
    ├── MetadataError         gadget.yaml
    ├── ObjectError           an eBPF object (ELF, BTF, markers)
    ├── BuildError            compiling or packing a gadget
    ├── KernelError           loading or attaching
    │   └── VerifierRejected
    ├── ContainerError        container runtimes
    └── OutputError           rendering or writing
"""

from __future__ import annotations


class IgPyError(Exception):
    """Root of the tree. One line says what was attempted, on what, and why it failed.

    *remedy* (optional) says what to do; *detail* (optional, may be long, e.g. a
    verifier log) is shown only with ``-v``.
    """

    def __init__(self, message: str, *, remedy: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class UsageError(IgPyError):
    """A flag, argument or parameter is wrong."""


class InvalidReference(IgPyError):
    """An image reference does not parse (distribution reference grammar)."""


class StoreError(IgPyError):
    """The local OCI layout store cannot be read or written."""


class ImageNotFound(StoreError):
    """No such image in the store."""


class RegistryError(IgPyError):
    """A registry could not be reached or did not answer as the protocol says."""


class RegistryUnavailable(RegistryError):
    """The registry broke off or is busy: another try may succeed."""


class RegistryDenied(RegistryError):
    """The registry refused our credentials, or the lack of them."""


class RegistryNotFound(RegistryError):
    """The registry has no such repository, tag or digest."""


class IntegrityError(IgPyError):
    """Content does not match its digest, size or declared type."""


class VerificationError(IgPyError):
    """A signature is missing, wrong, or could not be checked."""


class LimitError(IgPyError):
    """Untrusted input exceeds a named limit."""


class MetadataError(IgPyError):
    """gadget.yaml or build.yaml is malformed, or does not fit its eBPF object."""


class ObjectError(IgPyError):
    """An eBPF object is malformed: ELF, BTF, markers."""


class BuildError(IgPyError):
    """Compiling or packing a gadget failed."""


class KernelError(IgPyError):
    """The kernel refused to load or attach something."""


class VerifierRejected(KernelError):
    """The verifier rejected a program; the log is the *detail*."""


class ContainerError(IgPyError):
    """A container runtime could not be used."""


class OutputError(IgPyError):
    """Rendering or writing failed."""
