"""From the name of an image to its verified content: store, registry, path or sources.

``resolve`` stands above :mod:`ig_py.oci` and :mod:`ig_py.toolchain`: a path may name a
directory of sources, which is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py.errors import (
    IgPyError,
    ImageNotFound,
    RegistryDenied,
    RegistryError,
    UsageError,
)
from ig_py.oci import media, paths, policy, reader, verification
from ig_py.oci.artifact import Artifact, Descriptor, Origin
from ig_py.oci.digest import Damaged
from ig_py.oci.options import PULL_POLICIES, ResolveOptions
from ig_py.oci.parsed import ParsedMetadata
from ig_py.oci.reference import Reference, normalize
from ig_py.oci.source import BlobMissing, BlobSource, LayoutSource, MemorySource
from ig_py.oci.store import Store
from ig_py.oci.trust.find import LocalSignatures
from ig_py.oci.trust.model import Trust, Verdict
from ig_py.records import dataclass, replace

if TYPE_CHECKING:
    from ig_py.oci.archive import ArchiveSource
    from ig_py.oci.registry import RegistryOptions


def resolve(ref: str, options: ResolveOptions) -> Artifact:
    """Find, verify and read the image *ref*: a reference or a path (:mod:`ig_py.oci.paths`).

    The policies of this machine (:mod:`ig_py.oci.policy`) apply.

    Raises:
        UsageError: *options* are not valid, or a policy file is not or forbids them.
        InvalidReference: *ref* is neither a reference nor a path.
        ImageNotFound: There is no such image.
        StoreError: The store, or the path, cannot be read.
        RegistryError: The registry cannot be reached or denies the image.
        IntegrityError: Content does not match its digest or is malformed.
        LimitError: Content exceeds a limit.
        VerificationError: The image has no valid signature, or is not allowed here.
        BuildError: The sources at the path do not compile.
        MetadataError: The metadata of the sources at the path is not valid.
    """
    if options.pull not in PULL_POLICIES:
        raise UsageError(
            f'invalid value "{options.pull}" as "pull": valid values are: '
            + ", ".join(PULL_POLICIES)
        )
    options = policy.tighten(options)
    if paths.is_path(ref):
        return _from_path(ref, options)
    return _from_store(ref, options)


def verify(ref: str, options: ResolveOptions) -> Verdict:
    """Verify the signatures of an image in the store or at a path, without pulling the image.

    *options.verify_image* is ignored. Signatures of an image in the store may be pulled.

    Raises:
        ImageNotFound: There is no such image.
        VerificationError: The image has no valid signature.
        IgPyError: As :func:`resolve`, for paths.
    """
    options = policy.tighten(replace(options, verify_image=True))
    if paths.is_path(ref):
        path, tag = paths.split_path(ref)
        with paths.open_path(path) as source:
            root, repository = paths.pick(source.index(), ref, tag, policy.default_registry())
            return _check_signature(source, root, ref, repository, options)
    image = _StoreImage.named(ref, options)
    try:
        root = image.store.resolve(str(image.reference))
    except ImageNotFound as err:
        raise ImageNotFound(
            f'verifying "{ref}": resolving "{ref}" in local store: not found', remedy=err.remedy
        ) from None
    return image.check_signature(root)


def _from_store(ref: str, options: ResolveOptions) -> Artifact:
    image = _StoreImage.named(ref, options)
    reference = image.reference
    for allowed in _allow_lists(options):
        if not verification.may_be_allowed(str(reference), allowed):
            raise verification.not_allowed(ref, allowed)
    root = image.locate()
    for allowed in _allow_lists(options):
        verification.check_allowed(ref, str(reference), reference.repository, root.digest, allowed)
    if options.verify_image:
        image.check_signature(root)
    else:
        options.on_message(verification.OFF)
    try:
        return image.read(root)
    except (Damaged, BlobMissing) as err:
        image.repair(root, err)
    return image.read(root)


@dataclass(frozen=True)
class _StoreImage:
    """An image of the store, named by *ref*, and what its registry may add to the store."""

    ref: str
    reference: Reference
    store: Store
    options: ResolveOptions

    @classmethod
    def named(cls, ref: str, options: ResolveOptions) -> _StoreImage:
        reference = normalize(ref, policy.default_registry())
        return cls(ref, reference, options.store or Store.open(), options)

    def locate(self) -> Descriptor:
        """The image's index in the store; it is pulled first if *options.pull* says so."""
        ref, options = self.ref, self.options
        if options.pull != "always":
            try:
                return self.store.resolve(str(self.reference))
            except ImageNotFound as err:
                if options.pull == "never":
                    raise ImageNotFound(
                        f'resolving image "{self.reference}" on local registry: not found',
                        remedy=err.remedy + _path_hint(ref),
                    ) from None
        if options.disallow_pulling:
            raise RegistryDenied(f'pulling image "{ref}": pulling is disallowed{_path_hint(ref)}')
        when = "always" if options.pull == "always" else "if missing"
        try:
            return self._pull()
        except RegistryError as err:
            raise type(err)(
                f'pulling image ({when}) "{ref}": {err.message}',
                remedy=err.remedy + _path_hint(ref),
                detail=err.detail,
            ) from err.__cause__

    def check_signature(self, root: Descriptor) -> Verdict:
        pull = (lambda: self._pull_signatures(root)) if self.options.online else None
        return _check_signature(
            self.store, root, self.ref, self.reference.repository, self.options, pull
        )

    def read(self, root: Descriptor) -> Artifact:
        found = _read(self.store, root, self.ref, str(self.reference), "store", self.options)
        return replace(found, parsed=ParsedMetadata(self.store.root))

    def repair(self, root: Descriptor, damage: IgPyError) -> None:
        """Pull the verified image *root* once more.

        Raises:
            IgPyError: *damage*, when that is impossible.
        """
        options = self.options
        remedy = f"get it again with: ig-py image pull {self.reference.repository}@{root.digest}"
        if not options.online:
            raise type(damage)(damage.message, remedy=remedy) from damage
        options.on_message(f"{damage.message}: asking the registry of {self.ref} for it")
        try:
            self._pull(root.digest)
        except IgPyError as err:
            options.on_message(f"asking the registry of {self.ref}: {err.message}")
            raise type(damage)(damage.message, remedy=remedy) from damage

    def _pull(self, digest: str = "") -> Descriptor:
        from ig_py.oci.transfer import pull

        with self.options.progress() as progress:
            return pull(
                self.reference, self.store, _registry_options(self.options), progress=progress,
                on_message=self.options.on_message, digest=digest,
            )  # fmt: skip

    def _pull_signatures(self, root: Descriptor) -> None:
        from ig_py.oci.trust.transfer import pull_signatures

        reference, on_message = self.reference, self.options.on_message
        on_message(f"no signature of {reference} in the store: asking its registry")
        try:
            pull_signatures(reference, root, self.store, _registry_options(self.options))
        except IgPyError as err:
            on_message(f"asking for the signatures of {reference}: {err}")


def _from_path(ref: str, options: ResolveOptions) -> Artifact:
    for allowed in _allow_lists(options):
        # The names in a layout are its author's choice: a list of allowed names allows no path.
        if any(allowed):
            raise verification.not_allowed(ref, allowed)
    path, tag = paths.split_path(ref)
    if paths.is_source_directory(path) and not tag:
        return _from_sources(ref, path, options)
    with paths.open_path(path) as source:
        root, repository = paths.pick(source.index(), ref, tag, policy.default_registry())
        if options.verify_image:
            _check_signature(source, root, ref, repository, options)
        else:
            options.on_message(verification.OFF)
        name = root.annotations.get(media.REF_NAME, "")
        normalized = f"{path.absolute()}:{name}" if name else str(path.absolute())
        origin: Origin = "layout" if path.is_dir() else "archive"
        return _read(source, root, ref, normalized, origin, options)


def _from_sources(ref: str, path: Path, options: ResolveOptions) -> Artifact:
    from ig_py.toolchain.build import build_gadget
    from ig_py.toolchain.compile import ARCHITECTURES
    from ig_py.toolchain.options import BuildOptions

    only_one = options.arch in ARCHITECTURES and not options.build_all
    packed = build_gadget(
        BuildOptions(
            path=path,
            architectures=(options.arch,) if only_one else ARCHITECTURES,
            validate_metadata=options.validate_metadata,
            log=options.on_message,
        )
    )
    source = MemorySource(str(path), packed.blobs)
    return _read(source, packed.index, ref, str(path.absolute()), "source", options)


def _allow_lists(options: ResolveOptions) -> Iterator[Sequence[str]]:
    yield options.allowed_gadgets
    yield from options.required_gadgets


def _check_signature(
    source: LayoutSource | ArchiveSource,
    root: Descriptor,
    ref: str,
    repository: str,
    options: ResolveOptions,
    pull: Callable[[], None] | None = None,
) -> Verdict:
    verdict = verification.check_signature(
        ref,
        repository,
        root,
        lambda: LocalSignatures(source, source.index()),
        Trust(
            options.public_keys,
            options.notation_certificates,
            options.notation_policy,
            online=options.online,
        ),
        pull=pull,
    )
    for doubt in verdict.doubts:
        options.on_message(doubt)
    return verdict


def _read(
    source: BlobSource,
    root: Descriptor,
    ref: str,
    normalized: str,
    origin: Origin,
    options: ResolveOptions,
) -> Artifact:
    return reader.read_artifact(
        source, root, arch=options.arch, reference=ref, normalized=normalized, origin=origin
    )


def _registry_options(options: ResolveOptions) -> RegistryOptions:
    from ig_py.oci.registry import RegistryOptions

    return RegistryOptions(options.authfile, tuple(options.insecure_registries))


def _path_hint(ref: str) -> str:
    """How to name a file called *ref*, if there is one."""
    try:
        exists = Path(ref).exists()
    except (OSError, ValueError):
        return ""
    return f' (for the path of this name write "./{ref}")' if exists else ""
