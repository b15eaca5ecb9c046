"""Ways in which registries have hurt their clients, for :meth:`Registry.on`.

Each makes a function for one of them; the class of attack is in its docstring.
"""

from __future__ import annotations

import gzip
import json

from ig_py.testing.registry import Lie, Registry, Reply, Request


def redirect(target: str, status: int = 307) -> Lie:
    """Send the client elsewhere, hoping that its credentials come along (GHSA-vh4v-2xq2-g5cg)."""
    return lambda request, reply: Reply(status, headers={"Location": target})


def upload_elsewhere(target: str) -> Lie:
    """Name another server to upload to (CVE-2026-50151)."""
    return lambda request, reply: Reply(202, headers={"Location": target})


def demand_token(realm: str) -> Lie:
    """Name somebody else's token service (CVE-2026-48978)."""
    challenge = f'Bearer realm="{realm}",service="x"'
    return lambda request, reply: Reply(401, headers={"WWW-Authenticate": challenge})


def next_page(target: str) -> Lie:
    """Continue a list on another server (GHSA-h7vf-4x9w-h99v)."""

    def lie(request: Request, reply: Reply) -> Reply:
        reply.headers["Link"] = f'<{target}>; rel="next"'
        return reply

    return lie


def endless_pages(registry: Registry) -> Lie:
    """Continue a list for ever (GHSA-298f-872v-2rcx)."""

    def lie(request: Request, reply: Reply) -> Reply:
        count = len(registry.requests)
        reply.headers["Link"] = f'<{request.path}?page={count}>; rel="next"'
        return reply

    return lie


def oversized(size: int) -> Lie:
    """A document of *size* bytes of blanks (CVE-2023-25153)."""

    def lie(request: Request, reply: Reply) -> Reply:
        reply.body += b" " * max(0, size - len(reply.body))
        return reply

    return lie


def changed(request: Request, reply: Reply) -> Reply:
    """Other content of the same length under the same digest."""
    if reply.status == 200 and reply.body:
        reply.body = bytes([reply.body[0] ^ 1]) + reply.body[1:]
        reply.headers.pop("Docker-Content-Digest", None)
    return reply


def truncated(request: Request, reply: Reply) -> Reply:
    """Announce everything, send half, hang up."""
    reply.cut = len(reply.body) // 2
    return reply


def slow(seconds: float) -> Lie:
    """A body that comes byte by byte, *seconds* apart."""

    def lie(request: Request, reply: Reply) -> Reply:
        reply.drip = seconds
        return reply

    return lie


def ambiguous(request: Request, reply: Reply) -> Reply:
    """A document that is both an index and a manifest (CVE-2021-41190)."""
    if reply.status == 200:
        document = json.loads(reply.body)
        document.setdefault("layers", [])
        document.setdefault("manifests", [])
        reply.body = json.dumps(document).encode()
        reply.headers.pop("Docker-Content-Digest", None)
    return reply


def many_referrers(count: int) -> Lie:
    """Signatures without number (CVE-2023-46737)."""

    def lie(request: Request, reply: Reply) -> Reply:
        document = json.loads(reply.body)
        document["manifests"] = [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": f"sha256:{number:064x}",
                "size": 100,
                "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json",
            }
            for number in range(count)
        ]
        reply.body = json.dumps(document).encode()
        return reply

    return lie


def named_digest(digest: str) -> Lie:
    """An index whose first entry has this *digest*: a path, perhaps (CVE-2024-3727)."""

    def lie(request: Request, reply: Reply) -> Reply:
        if reply.status == 200:
            document = json.loads(reply.body)
            document["manifests"][0]["digest"] = digest
            reply.body = json.dumps(document).encode()
            reply.headers.pop("Docker-Content-Digest", None)
        return reply

    return lie


def nested(depth: int) -> Lie:
    """A document of lists in lists."""

    def lie(request: Request, reply: Reply) -> Reply:
        if reply.status == 200:
            reply.body = b"[" * depth + b"]" * depth
            reply.headers.pop("Docker-Content-Digest", None)
        return reply

    return lie


def key_twice(request: Request, reply: Reply) -> Reply:
    """A document that says two things in one place, of which each reader picks its own."""
    if reply.status == 200:
        reply.body = reply.body.replace(b"{", b'{"schemaVersion":1,', 1)
        reply.headers.pop("Docker-Content-Digest", None)
    return reply


def compressed(request: Request, reply: Reply) -> Reply:
    """Content that grows by a factor of hundreds when it is unpacked."""
    if reply.status == 200:
        # The fastest level: a busy machine must answer before the client gives up.
        reply.body = gzip.compress(bytes(1 << 24), compresslevel=1)
        reply.headers["Content-Encoding"] = "gzip"
    return reply


def wrong_type(media_type: str) -> Lie:
    """Say that a document is something else."""

    def lie(request: Request, reply: Reply) -> Reply:
        reply.headers["Content-Type"] = media_type
        return reply

    return lie
