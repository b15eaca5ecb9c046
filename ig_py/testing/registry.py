"""A registry in memory, for tests: it keeps to the specification unless a fault is injected.

It speaks the OCI distribution specification 1.1 over HTTP or HTTPS on a loopback port: pull
(with ranges), push in one piece or in chunks, mounting blobs, referrers, tags with pages,
deletion, and login by ``basic`` or ``bearer`` (with a token service). Use::

    with serving(Registry()) as registry:
        registry.put("gadgets/mine", "1", packed)      # what ``ig_py.oci.pack.pack`` returns
        ...                                            # pull f"{registry.host}/gadgets/mine:1"
        assert registry.seen("GET /v2/.*/manifests/1")

Every request is kept in ``requests`` with its headers, to see which credentials it had.
:meth:`Registry.on` passes answers through a function that may change them, and
:mod:`ig_py.testing.faults` has such functions for the faults that have hurt clients. Nothing is
written to disk. Not for production: nothing is limited.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ig_py.oci import media
from ig_py.oci.pack import PackedImage
from ig_py.records import dataclass, field
from ig_py.testing.server import Reply, Request, listening

__all__ = ["Fault", "Registry", "Reply", "Request", "digest_of", "serving"]

Fault = Callable[[Request, Reply], Reply]
"""Gets a request and the answer to it; returns the answer to send."""

_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>manifests|blobs|referrers|tags)/(?P<rest>.+)")


@dataclass
class _Upload:
    name: str
    data: bytearray = field(default_factory=bytearray)


class Registry:
    """*login*: (user, password) demanded; *scheme*: ``basic`` or ``bearer``; *realm*: where the
    token service is, None for this server. *referrers*: keep lists of them, as registries
    since specification 1.1 do. *page*: entries of one page of tags or referrers, 0 for all.
    *ranges*: send parts of blobs. *max_body*: bytes of an upload's request above which it is
    refused as too large, 0 for any number.

    ``manifests`` has (media type, bytes) by (repository, tag or digest), ``blobs`` bytes by
    digest; both may be changed at will.
    """

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        scheme: str = "bearer",
        referrers: bool = True,
        page: int = 0,
        ranges: bool = True,
        max_body: int = 0,
    ) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.requests: list[Request] = []
        self.login, self.scheme = login, scheme
        self.referrers, self.page = referrers, page
        self.ranges, self.max_body = ranges, max_body
        self.tokens: set[str] = set()
        self.realm = ""
        self.host = ""
        self.base = ""
        self._uploads: dict[str, _Upload] = {}
        self._faults: list[tuple[re.Pattern[str], Fault]] = []
        self._stopping = threading.Event()

    # For tests

    def on(self, pattern: str, fault: Fault) -> None:
        """Pass answers to requests ``METHOD PATH`` that match through *fault*."""
        self._faults.append((re.compile(pattern), fault))

    def put(self, repository: str, tag: str, packed: PackedImage) -> None:
        """Store an image as a push would."""
        for digest, data in packed.blobs.items():
            kind = _document_type(data)
            if kind:
                self.manifests[repository, digest] = (kind, data)
            else:
                self.blobs[digest] = data
        self.manifests[repository, tag] = (media.INDEX, packed.blobs[packed.index.digest])

    def seen(self, pattern: str) -> list[Request]:
        """Requests ``METHOD PATH`` that match."""
        return [r for r in self.requests if re.search(pattern, f"{r.method} {r.path}")]

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the server's end."""
        self._stopping.wait(seconds)

    def stop(self) -> None:
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    # Answers

    def answer(self, request: Request) -> Reply:
        """What the server sends; every request passes here."""
        self.requests.append(request)
        reply = self._correct(request)
        for pattern, fault in self._faults:
            if pattern.search(f"{request.method} {request.path}"):
                reply = fault(request, reply)
        return reply

    def _correct(self, request: Request) -> Reply:
        if request.path == "/token":
            return self._token(request)
        denied = self._denied(request)
        if denied:
            return denied
        if request.path == "/v2/":
            return Reply(200, b"{}")
        match = _PATH.fullmatch(request.path)
        if not match and request.path.endswith("/blobs/uploads/"):
            match = re.fullmatch(
                r"/v2/(?P<name>.+)/(?P<kind>blobs)/(?P<rest>uploads/)", request.path
            )
        if not match:
            return _error(404, "NAME_UNKNOWN")
        name, rest = match["name"], match["rest"]
        if match["kind"] == "manifests":
            return self._manifest(request, name, rest)
        if match["kind"] == "referrers":
            return self._referrers(request, name, rest)
        if match["kind"] == "tags":
            return self._tags(request, name)
        if rest.startswith("uploads/"):
            return self._upload(request, name, rest.removeprefix("uploads/"))
        return self._blob(request, rest)

    def _manifest(self, request: Request, name: str, target: str) -> Reply:
        if request.method == "PUT":
            return self._put_manifest(request, name, target)
        if request.method == "DELETE":
            found = self.manifests.pop((name, target), None)
            return Reply(202) if found else _error(404, "MANIFEST_UNKNOWN")
        stored = self.manifests.get((name, target))
        if stored is None:
            return _error(404, "MANIFEST_UNKNOWN")
        headers = {"Content-Type": stored[0], "Docker-Content-Digest": digest_of(stored[1])}
        return Reply(200, stored[1], headers)

    def _put_manifest(self, request: Request, name: str, target: str) -> Reply:
        digest = digest_of(request.body)
        if target.startswith("sha256:") and target != digest:
            return _error(400, "DIGEST_INVALID")
        kind = request.headers.get("content-type", "")
        self.manifests[name, target] = (kind, request.body)
        self.manifests[name, digest] = (kind, request.body)
        headers = {
            "Docker-Content-Digest": digest,
            "Location": f"/v2/{name}/manifests/{digest}",
        }
        subject = _loaded(request.body).get("subject")
        if self.referrers and isinstance(subject, dict):
            headers["OCI-Subject"] = str(subject.get("digest"))
        return Reply(201, headers=headers)

    def _referrers(self, request: Request, name: str, digest: str) -> Reply:
        if not self.referrers:
            return _error(404, "NOT_FOUND")
        found = []
        for (repository, target), (kind, raw) in sorted(self.manifests.items()):
            document = _loaded(raw)
            subject = document.get("subject")
            if repository != name or not target.startswith("sha256:"):
                continue
            if isinstance(subject, dict) and subject.get("digest") == digest:
                config = document.get("config") or {}
                found.append(
                    {
                        "mediaType": kind,
                        "digest": target,
                        "size": len(raw),
                        "artifactType": document.get("artifactType") or config.get("mediaType"),
                        "annotations": document.get("annotations") or {},
                    }
                )
        wanted = request.query.get("artifactType", [""])[0]
        headers = {"Content-Type": media.INDEX}
        if wanted:
            found = [d for d in found if d["artifactType"] == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        page, following = self._paged(found, request)
        if following:
            headers["Link"] = following
        body = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": page}
        return Reply(200, json.dumps(body).encode(), headers)

    def _tags(self, request: Request, name: str) -> Reply:
        tags = sorted(t for n, t in self.manifests if n == name and not t.startswith("sha256:"))
        if not any(n == name for n, _ in self.manifests):
            return _error(404, "NAME_UNKNOWN")
        page, following = self._paged(tags, request)
        headers = {"Content-Type": "application/json"}
        if following:
            headers["Link"] = following
        return Reply(200, json.dumps({"name": name, "tags": page}).encode(), headers)

    def _paged(self, items: list[Any], request: Request) -> tuple[list[Any], str]:
        size = int(request.query.get("n", [str(self.page)])[0]) or len(items)
        start = int(request.query.get("start", ["0"])[0])
        page = items[start : start + size]
        if start + size >= len(items):
            return page, ""
        return page, f'<{request.path}?n={size}&start={start + size}>; rel="next"'

    def _blob(self, request: Request, digest: str) -> Reply:
        if request.method == "DELETE":
            return Reply(202) if self.blobs.pop(digest, None) else _error(404, "BLOB_UNKNOWN")
        data = self.blobs.get(digest)
        if data is None:
            return _error(404, "BLOB_UNKNOWN")
        headers = {"Content-Type": "application/octet-stream"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not match or not self.ranges:
            return Reply(200, data, headers)
        start, end = int(match[1]), int(match[2] or len(data) - 1)
        if start >= len(data) or end < start:
            return _error(416, "RANGE_INVALID")
        part = data[start : end + 1]
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        return Reply(206, part, headers)

    def _upload(self, request: Request, name: str, session: str) -> Reply:
        digest = request.query.get("digest", [""])[0]
        if self.max_body and len(request.body) > self.max_body:
            return _error(413, "SIZE_INVALID")
        if request.method == "POST":
            mounted = request.query.get("mount", [""])[0]
            if mounted in self.blobs:
                return self._created(name, mounted)
            session = secrets.token_hex(8)
            self._uploads[session] = _Upload(name)
            if digest:
                return self._finish(name, session, digest, request.body)
            return self._accepted(name, session)
        if request.method == "PUT":
            # A registry may hand out places of another server, which knows of no session.
            self._uploads.setdefault(session, _Upload(name))
        upload = self._uploads.get(session)
        if upload is None or upload.name != name:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "PATCH":
            start = request.headers.get("content-range", str(len(upload.data))).partition("-")[0]
            if start != str(len(upload.data)):
                return _error(416, "BLOB_UPLOAD_INVALID")
            upload.data += request.body
            return self._accepted(name, session)
        if request.method == "PUT":
            return self._finish(name, session, digest, request.body)
        if request.method == "DELETE":
            del self._uploads[session]
            return Reply(204)
        return Reply(204, headers={"Range": f"0-{max(len(upload.data) - 1, 0)}"})

    def _finish(self, name: str, session: str, digest: str, rest: bytes) -> Reply:
        data = bytes(self._uploads.pop(session).data) + rest
        if digest != digest_of(data):
            return _error(400, "DIGEST_INVALID")
        self.blobs[digest] = data
        return self._created(name, digest)

    def _accepted(self, name: str, session: str) -> Reply:
        place = f"/v2/{name}/blobs/uploads/{session}?state=1"
        have = max(len(self._uploads[session].data) - 1, 0)
        return Reply(202, headers={"Location": place, "Range": f"0-{have}"})

    def _created(self, name: str, digest: str) -> Reply:
        place = f"/v2/{name}/blobs/{digest}"
        return Reply(201, headers={"Docker-Content-Digest": digest, "Location": place})

    # Login

    def _basic(self) -> str:
        if self.login is None:
            return ""
        return "Basic " + base64.b64encode(":".join(self.login).encode()).decode()

    def _token(self, request: Request) -> Reply:
        if self.login and request.authorization != self._basic():
            return _error(401, "UNAUTHORIZED")
        token = secrets.token_hex(8)
        self.tokens.add(token)
        return Reply(200, json.dumps({"token": token}).encode())

    def _denied(self, request: Request) -> Reply | None:
        if not self.login and not self.realm:
            return None
        shown = request.authorization
        if self.scheme == "basic":
            ok, challenge = shown == self._basic(), 'Basic realm="test"'
        else:
            ok = shown.removeprefix("Bearer ") in self.tokens
            realm = self.realm or f"{self.base}/token"
            challenge = f'Bearer realm="{realm}",service="test",scope="repository:evil:pull"'
        if ok:
            return None
        denied = _error(401, "UNAUTHORIZED")
        denied.headers["WWW-Authenticate"] = challenge
        return denied


def digest_of(data: bytes) -> str:
    """``sha256:…`` of *data*."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@contextmanager
def serving(
    registry: Registry, *, tls: tuple[Path, Path] | None = None, host: str = "127.0.0.1"
) -> Iterator[Registry]:
    """*registry* on a free loopback port; sets its ``host`` (``host:port``) and ``base``.

    *tls*: files with (certificate, key). *host*: what the registry is called, a name for
    127.0.0.1.
    """
    with listening(registry, tls) as port:
        registry.host = f"{host}:{port}"
        registry.base = f"{'https' if tls else 'http'}://{registry.host}"
        try:
            yield registry
        finally:
            registry.stop()


def _error(status: int, code: str) -> Reply:
    body = {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _loaded(data: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        document = json.loads(data)
        if isinstance(document, dict):
            return document
    return {}


def _document_type(data: bytes) -> str:
    document = _loaded(data)
    if "manifests" in document:
        return media.INDEX
    return media.MANIFEST if "layers" in document else ""
