"""One repository of a registry: reading and writing of documents and blobs, verified."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from ig_py.errors import IntegrityError, LimitError, RegistryNotFound
from ig_py.oci import credentials, limits, media, policy
from ig_py.oci import digest as digests
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import parse_index
from ig_py.oci.reference import Reference
from ig_py.oci.source import BlobSource
from ig_py.oci.transport import Timeouts, Transport
from ig_py.oci.upload import upload
from ig_py.records import dataclass, field

_ACCEPT = f"{media.INDEX}, {media.MANIFEST}"
MAX_REFERRER_PAGES = 20
_NO_REFERRERS = (400, 404, 405, 501)
"""Status codes of registries without the referrers API."""
_MAX_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class RegistryOptions:
    """*insecure_registries*: ``host:port`` spelled as in references. *authfile*: None: the
    default files.
    """

    authfile: str | None = None
    insecure_registries: tuple[str, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)


class Repository(BlobSource):
    """The repository of *reference*. A context manager.

    *write*: the token allows to push too.

    Raises:
        UsageError: A policy file is not valid.
        RegistryError: From every method, also one of its kinds: the registry cannot be reached,
            refuses, or does not have what is asked for. From the constructor: a file of
            credentials cannot be read.
        IntegrityError: From methods: content is malformed, or not what its descriptor says.
        LimitError: From methods: content exceeds a limit.
    """

    def __init__(
        self, reference: Reference, options: RegistryOptions, *, write: bool = False
    ) -> None:
        self.name = reference.repository
        insecure = reference.domain in policy.insecure(options.insecure_registries)
        known = (
            credentials.Credentials()
            if insecure
            else credentials.lookup(reference.domain, options.authfile)
        )
        actions = "pull,push" if write else "pull"
        self._http = Transport(
            reference.domain,
            scope=f"repository:{reference.path}:{actions}",
            insecure=insecure,
            credentials=known,
            timeouts=options.timeouts,
        )
        self._base = f"{self._http.base}/v2/{reference.path}"
        self._documents: dict[str, bytes] = {}

    def clone(self) -> Repository:
        """The same repository over other connections, for another thread."""
        clone = copy.copy(self)
        clone._http, clone._documents = self._http.clone(), {}
        return clone

    def abort(self) -> None:
        """Abort the request of another thread, which raises there."""
        self._http.abort()

    def __enter__(self) -> Repository:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # Reading

    def resolve(self, target: str) -> Descriptor:
        """Fetch the document behind a tag or digest; it is kept for :meth:`read`."""
        url = self._manifest_url(target)
        response, raw = self._http.read(
            "GET", url, headers={"Accept": _ACCEPT}, limit=limits.MAX_DOCUMENT, elsewhere=True
        )
        what = f"{self.name}: manifest {target}"
        if digests.is_valid(target):
            digests.verify(raw, target, len(raw), what)
            digest = target
        else:
            digest = digests.of(raw)
        announced = response.headers.get("Docker-Content-Digest", "")
        if announced.startswith("sha256:") and announced != digests.of(raw):
            raise IntegrityError(
                f"{what}: content has digest {digests.of(raw)} instead of {announced[:80]}"
            )
        self._documents[digest] = raw
        return Descriptor(_media_type(response, what), digest, len(raw))

    def _content(self, descriptor: Descriptor) -> Iterator[bytes]:
        if descriptor.media_type not in (media.INDEX, media.MANIFEST):
            return self._http.stream(self._blob_url(descriptor.digest), descriptor.size)
        if descriptor.digest not in self._documents:
            found = self.resolve(descriptor.digest)
            if found.media_type != descriptor.media_type:
                raise IntegrityError(
                    f"{self.describe(descriptor)}: sent as {found.media_type}, "
                    f"described as {descriptor.media_type}"
                )
        return iter([self._documents[descriptor.digest]])

    def referrers(self, digest: str) -> list[Descriptor] | None:
        """Manifests whose subject is *digest*; None without the referrers API.

        Raises:
            LimitError: There are more than :data:`MAX_REFERRER_PAGES` pages.
            RegistryError: The registry cannot be reached or refuses.
            IntegrityError: *digest* is not a valid one, or the list is malformed.
        """
        digests.split(digest)
        url = f"{self._base}/referrers/{digest}"
        found: list[Descriptor] = []
        for _ in range(MAX_REFERRER_PAGES):
            response, raw = self._http.read(
                "GET",
                url,
                headers={"Accept": media.INDEX},
                limit=limits.MAX_DOCUMENT,
                ok=(200, *_NO_REFERRERS),
                elsewhere=True,
            )
            if response.status_code != 200:
                return None
            found += parse_index(raw, f"{self.name}: referrers of {digest}").manifests
            following = response.links.get("next", {}).get("url")
            if not following:
                return found
            url = self._http.check_location(url, following, elsewhere=False)
        raise LimitError(
            f"{self.name}: the referrers of {digest} have more than {MAX_REFERRER_PAGES} pages"
        )

    # Writing

    def tagged(self, tag: str) -> str:
        """The digest of a tag; empty when the registry has no such tag or names no digest."""
        try:
            response, _ = self._http.read(
                "HEAD", self._manifest_url(tag), headers={"Accept": _ACCEPT}, elsewhere=True
            )
        except RegistryNotFound:
            return ""
        return str(response.headers.get("Docker-Content-Digest", ""))

    def has_blob(self, descriptor: Descriptor) -> bool:
        try:
            url = self._blob_url(descriptor.digest)
            response, _ = self._http.read("HEAD", url, elsewhere=True)
        except RegistryNotFound:
            return False
        length = response.headers.get("Content-Length", "")
        return not length.isdecimal() or int(length) == descriptor.size

    def put_blob(
        self, descriptor: Descriptor, data: bytes, on_bytes: Callable[[int], None]
    ) -> None:
        """Upload a verified blob; retry when the connection breaks or the registry is busy."""
        upload(self._http, f"{self._base}/blobs/uploads/", descriptor, data, on_bytes)

    def put_document(self, descriptor: Descriptor, raw: bytes, tag: str = "") -> bool:
        """Upload exactly these bytes, by digest or under *tag*.

        True when the registry has added it to the referrers of its subject (``OCI-Subject``).
        """
        target = tag or descriptor.digest
        response, _ = self._http.read(
            "PUT",
            self._manifest_url(target),
            headers={"Content-Type": descriptor.media_type},
            body=lambda: raw,
            ok=(201,),
        )
        stored = response.headers.get("Docker-Content-Digest", descriptor.digest)
        if stored != descriptor.digest:
            raise IntegrityError(
                f"{self.name}: the registry stored {target} as {stored[:80]} "
                f"instead of {descriptor.digest}"
            )
        return "OCI-Subject" in response.headers

    def _manifest_url(self, target: str) -> str:
        if not _MAX_TAG.fullmatch(target):
            digests.split(target)
        return f"{self._base}/manifests/{target}"

    def _blob_url(self, digest: str) -> str:
        digests.split(digest)
        return f"{self._base}/blobs/{digest}"


def _media_type(response: Any, what: str) -> str:
    sent = str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    if sent not in (media.INDEX, media.MANIFEST):
        raise IntegrityError(f"{what}: is {sent[:100] or 'of no type'}, not an OCI image")
    return sent
