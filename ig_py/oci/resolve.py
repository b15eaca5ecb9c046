"""What a user typed → an :class:`Artifact`.

These are paths, everything else is a reference (a bare ``image.tar`` is one, as for
the compatible system): ``.``, ``..``, ``./x``, ``../x``, ``/x``, ``~``, ``~/x``,
``oci:PATH``, ``oci-archive:PATH``. A path names an OCI layout directory, an image tar
or a gadget's source directory; ``PATH:TAG`` chooses among several images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py.errors import (
    IgPyError,
    ImageNotFound,
    InvalidReference,
    RegistryDenied,
    RegistryError,
    StoreError,
    UsageError,
)
from ig_py.host.architecture import host_architecture
from ig_py.oci import graph, media, policy, verification
from ig_py.oci.artifact import Artifact, Descriptor, Origin
from ig_py.oci.digest import Damaged
from ig_py.oci.document import Index
from ig_py.oci.reference import Reference, normalize, parse_stored
from ig_py.oci.source import (
    BLOBS,
    INDEX_FILE,
    LAYOUT_FILE,
    BlobMissing,
    BlobSource,
    LayoutSource,
    MemorySource,
)
from ig_py.oci.store import Store
from ig_py.oci.trust.find import LocalSignatures
from ig_py.oci.trust.keys import UPSTREAM
from ig_py.oci.trust.model import Trust, Verdict
from ig_py.records import dataclass, field, replace

if TYPE_CHECKING:
    from ig_py.oci.archive import ArchiveSource
    from ig_py.oci.registry import RegistryOptions
    from ig_py.oci.staging import Progress

PULL_POLICIES = ("always", "missing", "never")
SOURCE_FILES = ("build.yaml", "gadget.yaml", "program.bpf.c")

_LAYOUT_SCHEME = "oci:"
_ARCHIVE_SCHEME = "oci-archive:"
_PATH = re.compile(r"(\.|\.\.|~)(/.*)?|/.*", re.DOTALL)


def _ignore(_message: str) -> None:
    pass


@dataclass(frozen=True)
class ResolveOptions:
    """How to find an image and whether to trust it.

    *arch* as images name it; *pull* one of :data:`PULL_POLICIES`; *store* None opens
    the default one; *public_keys* (the built-in one has a name: :data:`UPSTREAM`) and
    *notation_certificates*: PEM texts or files; *notation_policy*: a JSON text or file;
    *required_gadgets*: further lists like *allowed_gadgets*, each of which must allow the
    image; *on_message* hears warnings; *progress* makes a context for one download, which
    yields what hears of its bytes (:class:`~ig_py.oci.staging.Progress`, or None);
    *build_all*: sources are built for every architecture, not only for *arch*;
    *validate_metadata*: their gadget.yaml is checked.
    What :mod:`ig_py.oci.policy` finds tightens all this.
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


def is_path(text: str) -> bool:
    """Does *text* name a path rather than a reference?"""
    return text.startswith((_LAYOUT_SCHEME, _ARCHIVE_SCHEME)) or bool(_PATH.fullmatch(text))


def resolve(ref: str, options: ResolveOptions) -> Artifact:
    """Find, check and read the image *ref*.

    Raises :class:`InvalidReference`, :class:`ImageNotFound`, :class:`StoreError`,
    :class:`RegistryError`, :class:`IntegrityError`, :class:`LimitError`,
    :class:`VerificationError`, :class:`UsageError`, and for sources
    :class:`BuildError` and :class:`MetadataError`.
    """
    if options.pull not in PULL_POLICIES:
        raise UsageError(
            f'invalid value "{options.pull}" as "pull": valid values are: '
            + ", ".join(PULL_POLICIES)
        )
    options = policy.tighten(options)
    if is_path(ref):
        return _from_path(ref, options)
    reference = normalize(ref)
    lists = (options.allowed_gadgets, *options.required_gadgets)
    for allowed in lists:
        if not verification.may_be_allowed(str(reference), allowed):
            raise verification.not_allowed(ref, allowed)
    store = options.store or Store.open()
    root = _ensure(ref, reference, store, options)
    for allowed in lists:
        verification.check_allowed(ref, str(reference), reference.repository, root.digest, allowed)
    fetch = partial(_fetch_signatures, reference, root, store, options)
    may_fetch = _may_fetch(options)
    _verify(store, root, ref, reference.repository, options, fetch if may_fetch else None)
    try:
        return _read(store, root, ref, str(reference), "store", options)
    except (Damaged, BlobMissing) as err:
        _heal(err, ref, reference, root, store, options, may_fetch)
    return _read(store, root, ref, str(reference), "store", options)


def _may_fetch(options: ResolveOptions) -> bool:
    return not options.disallow_pulling and options.pull != "never"


def _heal(
    damage: IgPyError,
    ref: str,
    reference: Reference,
    root: Descriptor,
    store: Store,
    options: ResolveOptions,
    may_fetch: bool,
) -> None:
    """Fetch the very image that was verified once more; *damage* when that cannot be."""
    remedy = f"get it again with: ig-py image pull {reference.repository}@{root.digest}"
    if not may_fetch:
        raise type(damage)(damage.message, remedy=remedy) from damage
    from ig_py.oci.transfer import pull

    options.on_message(f"{damage.message}: asking the registry of {ref} for it")
    try:
        with options.progress() as heard:
            pull(reference, store, _registry_options(options), progress=heard,
                 on_message=options.on_message, digest=root.digest)  # fmt: skip
    except IgPyError as err:
        options.on_message(f"asking the registry of {ref}: {err.message}")
        raise type(damage)(damage.message, remedy=remedy) from damage


def _fetch_signatures(
    reference: Reference, root: Descriptor, store: Store, options: ResolveOptions
) -> None:
    from ig_py.oci.trust.fetch import pull_signatures

    options.on_message(f"no signature of {reference} in the store: asking its registry")
    try:
        pull_signatures(reference, root, store, _registry_options(options))
    except IgPyError as err:
        options.on_message(f"asking for the signatures of {reference}: {err}")


def _registry_options(options: ResolveOptions) -> RegistryOptions:
    from ig_py.oci.registry import RegistryOptions

    return RegistryOptions(options.authfile, tuple(options.insecure_registries))


def _verify(
    source: LayoutSource | ArchiveSource,
    root: Descriptor,
    ref: str,
    repository: str,
    options: ResolveOptions,
    fetch: Callable[[], None] | None = None,
) -> None:
    if options.verify_image:
        _check(source, root, ref, repository, options, fetch)
    else:
        options.on_message(verification.OFF)


def _check(
    source: LayoutSource | ArchiveSource,
    root: Descriptor,
    ref: str,
    repository: str,
    options: ResolveOptions,
    fetch: Callable[[], None] | None = None,
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
            online=_may_fetch(options),
        ),
        fetch=fetch,
    )
    for doubt in verdict.doubts:
        options.on_message(doubt)
    return verdict


def verify(ref: str, options: ResolveOptions) -> Verdict:
    """Check the signatures of an image that is here, whatever *verify_image* says.

    The signatures of one in the store may be fetched. Raises :class:`ImageNotFound`,
    :class:`VerificationError`, and what :func:`resolve` raises for paths.
    """
    options = policy.tighten(replace(options, verify_image=True))
    if is_path(ref):
        path, tag = _split_path(ref)
        with _opened(path, ref) as source:
            root, name = _picked(source, ref, tag)
            return _check(source, root, ref, name, options)
    reference = normalize(ref)
    store = options.store or Store.open()
    try:
        root = store.resolve(str(reference))
    except ImageNotFound as err:
        raise ImageNotFound(
            f'verifying "{ref}": resolving "{ref}" in local store: not found', remedy=err.remedy
        ) from None
    fetch = partial(_fetch_signatures, reference, root, store, options)
    may_fetch = fetch if _may_fetch(options) else None
    return _check(store, root, ref, reference.repository, options, may_fetch)


def _ensure(ref: str, reference: Reference, store: Store, options: ResolveOptions) -> Descriptor:
    if options.pull != "always":
        try:
            return store.resolve(str(reference))
        except ImageNotFound as err:
            if options.pull == "never":
                raise ImageNotFound(
                    f'resolving image "{reference}" on local registry: not found',
                    remedy=err.remedy + _path_hint(ref),
                ) from None
    if options.disallow_pulling:
        raise RegistryDenied(f'pulling image "{ref}": pulling is disallowed{_path_hint(ref)}')
    from ig_py.oci.transfer import pull

    when = "always" if options.pull == "always" else "if missing"
    try:
        with options.progress() as heard:
            return pull(
                reference, store, _registry_options(options), progress=heard,
                on_message=options.on_message,
            )  # fmt: skip
    except RegistryError as err:
        raise type(err)(
            f'pulling image ({when}) "{ref}": {err.message}',
            remedy=err.remedy + _path_hint(ref),
            detail=err.detail,
        ) from err.__cause__


def _path_hint(ref: str) -> str:
    """Somebody may have meant a file of that name."""
    try:
        exists = Path(ref).exists()
    except (OSError, ValueError):
        return ""
    return f' (for the path of this name write "./{ref}")' if exists else ""


def _from_path(ref: str, options: ResolveOptions) -> Artifact:
    for allowed in (options.allowed_gadgets, *options.required_gadgets):
        if any(allowed):
            raise verification.not_allowed(ref, allowed)
    path, tag = _split_path(ref)
    if _is_source(path) and not tag:
        return _from_source(ref, path, options)
    with _opened(path, ref) as source:
        root, repository = _picked(source, ref, tag)
        _verify(source, root, ref, repository, options)
        name = root.annotations.get(media.REF_NAME, "")
        normalized = f"{path.absolute()}:{name}" if name else str(path.absolute())
        origin: Origin = "layout" if path.is_dir() else "archive"
        return _read(source, root, ref, normalized, origin, options)


def _is_source(path: Path) -> bool:
    """Is *path* a directory with a gadget's sources, and no layout?"""
    if not path.is_dir() or any((path / name).exists() for name in (LAYOUT_FILE, INDEX_FILE)):
        return False
    return any((path / name).exists() for name in SOURCE_FILES)


@contextmanager
def _opened(path: Path, ref: str) -> Iterator[LayoutSource | ArchiveSource]:
    if path.is_dir():
        if not any((path / name).exists() for name in (LAYOUT_FILE, INDEX_FILE)):
            raise StoreError(
                f"{path}: neither an OCI image layout nor a gadget's sources",
                remedy=f"a layout has {LAYOUT_FILE}, {INDEX_FILE} and {BLOBS}/; "
                f"sources have one of {', '.join(SOURCE_FILES)}",
            )
        yield LayoutSource(path)
        return
    from ig_py.oci.archive import ArchiveSource

    with ArchiveSource(path) as archive:
        yield archive


def _picked(source: LayoutSource | ArchiveSource, ref: str, tag: str) -> tuple[Descriptor, str]:
    """The image that *tag* names or the only one, and the repository it is of."""
    root = _pick(source.index(), ref, tag)
    named = parse_stored(root.annotations.get(media.REF_NAME, ""))
    return root, named.repository if named else ""


def _split_path(ref: str) -> tuple[Path, str]:
    """(path, tag). The whole text is the path when it exists."""
    text = ref.removeprefix(_ARCHIVE_SCHEME).removeprefix(_LAYOUT_SCHEME)
    if not text or "\0" in text:
        raise InvalidReference(f'"{ref}" names no path')
    candidates = [(text, "")]
    # A tag may itself have colons and slashes: a full reference, with a port perhaps.
    candidates += [(text[: m.start()], text[m.end() :]) for m in re.finditer(":", text)]
    for name, tag in candidates:
        try:
            path = Path(name).expanduser()
            if path.exists():
                return path, tag
        except (OSError, RuntimeError):
            continue
    raise StoreError(f"open {text}: no such file or directory")


def _pick(index: Index, ref: str, tag: str) -> Descriptor:
    """The image that *tag* names, or the only one there is."""
    roots = [d for d in index.manifests if d.media_type == media.INDEX]
    named = {d.annotations.get(media.REF_NAME, "") for d in roots} - {""}
    if tag:
        found = [d for d in roots if _has_tag(d.annotations.get(media.REF_NAME, ""), tag)]
        if not found:
            raise ImageNotFound(f'"{ref}": no image "{tag}"', remedy=_choices(named))
    else:
        found = [d for d in roots if media.REF_NAME in d.annotations] or roots
        if not found:
            raise ImageNotFound(
                f'"{ref}": there is no image index in it',
                remedy="copy images with all their architectures (skopeo copy --all)",
            )
    if len({d.digest for d in found}) > 1:
        raise ImageNotFound(
            f'"{ref}": there are several images in it',
            remedy=f"choose one with PATH:TAG; {_choices(named)}",
        )
    return found[0]


def _has_tag(name: str, tag: str) -> bool:
    if not name or name == tag or name.endswith((f":{tag}", f"/{tag}")):
        return bool(name)
    try:
        return str(normalize(tag)) == name
    except InvalidReference:
        return False


def _choices(names: set[str]) -> str:
    if not names:
        return "its images have no names"
    listed = sorted(names)[:20]
    more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
    return f"it has {', '.join(listed)}{more}"


def _read(
    source: BlobSource,
    root: Descriptor,
    ref: str,
    normalized: str,
    origin: Origin,
    options: ResolveOptions,
) -> Artifact:
    return graph.read_artifact(
        source, root, arch=options.arch, reference=ref, normalized=normalized, origin=origin
    )


def _from_source(ref: str, path: Path, options: ResolveOptions) -> Artifact:
    from ig_py.toolchain.build import BuildOptions, build_gadget
    from ig_py.toolchain.compile import ARCHITECTURES

    few = options.arch in ARCHITECTURES and not options.build_all
    architectures = (options.arch,) if few else ARCHITECTURES
    packed = build_gadget(
        BuildOptions(
            path=path,
            architectures=architectures,
            validate_metadata=options.validate_metadata,
            log=options.on_message,
        )
    )
    source = MemorySource(str(path), packed.blobs)
    return _read(source, packed.index, ref, str(path.absolute()), "source", options)
