"""Faults of registries that have hurt their clients, for :meth:`Registry.on`.

Each function is a fault or makes one; the class of attack is in its docstring.
"""

from __future__ import annotations

import gzip
import json

from ig_py.testing.registry import Fault, Registry, Reply, Request


def redirect(target: str, status: int = 307) -> Fault:
    """Send the client elsewhere, hoping that its credentials come along (GHSA-vh4v-2xq2-g5cg)."""
    return lambda request, reply: Reply(status, headers={"Location": target})


def upload_elsewhere(target: str) -> Fault:
    """Name another server to upload to (CVE-2026-50151)."""
    return lambda request, reply: Reply(202, headers={"Location": target})


def demand_token(realm: str) -> Fault:
    """Name a token service on another host (CVE-2026-48978)."""
    challenge = f'Bearer realm="{realm}",service="x"'
    return lambda request, reply: Reply(401, headers={"WWW-Authenticate": challenge})


def next_page(target: str) -> Fault:
    """Continue a list on another server (GHSA-h7vf-4x9w-h99v)."""

    def fault(request: Request, reply: Reply) -> Reply:
        reply.headers["Link"] = f'<{target}>; rel="next"'
        return reply

    return fault


def endless_pages(registry: Registry) -> Fault:
    """Link each page of a list to a further one, without end (GHSA-298f-872v-2rcx)."""

    def fault(request: Request, reply: Reply) -> Reply:
        count = len(registry.requests)
        reply.headers["Link"] = f'<{request.path}?page={count}>; rel="next"'
        return reply

    return fault


def oversized(size: int) -> Fault:
    """A document of *size* bytes of blanks (CVE-2023-25153)."""

    def fault(request: Request, reply: Reply) -> Reply:
        reply.body += b" " * max(0, size - len(reply.body))
        return reply

    return fault


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


def slow(seconds: float) -> Fault:
    """A body that comes byte by byte, *seconds* apart."""

    def fault(request: Request, reply: Reply) -> Reply:
        reply.drip = seconds
        return reply

    return fault


def ambiguous(request: Request, reply: Reply) -> Reply:
    """A document that is both an index and a manifest (CVE-2021-41190)."""
    if reply.status == 200:
        document = json.loads(reply.body)
        document.setdefault("layers", [])
        document.setdefault("manifests", [])
        reply.body = json.dumps(document).encode()
        reply.headers.pop("Docker-Content-Digest", None)
    return reply


def many_referrers(count: int) -> Fault:
    """Signatures without number (CVE-2023-46737)."""

    def fault(request: Request, reply: Reply) -> Reply:
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

    return fault


def named_digest(digest: str) -> Fault:
    """An index whose first entry has this *digest*: a path, perhaps (CVE-2024-3727)."""

    def fault(request: Request, reply: Reply) -> Reply:
        if reply.status == 200:
            document = json.loads(reply.body)
            document["manifests"][0]["digest"] = digest
            reply.body = json.dumps(document).encode()
            reply.headers.pop("Docker-Content-Digest", None)
        return reply

    return fault


def nested(depth: int) -> Fault:
    """A document of lists in lists."""

    def fault(request: Request, reply: Reply) -> Reply:
        if reply.status == 200:
            reply.body = b"[" * depth + b"]" * depth
            reply.headers.pop("Docker-Content-Digest", None)
        return reply

    return fault


def key_twice(request: Request, reply: Reply) -> Reply:
    """A document that says two things in one place, of which each reader picks its own."""
    if reply.status == 200:
        reply.body = reply.body.replace(b"{", b'{"schemaVersion":1,', 1)
        reply.headers.pop("Docker-Content-Digest", None)
    return reply


def compressed(size: int = 1 << 24) -> Fault:
    """Content of *size* bytes that is a thousandth of it before it is unpacked."""
    # Compressing takes longer than a client may be made to wait.
    body = gzip.compress(bytes(size))

    def fault(request: Request, reply: Reply) -> Reply:
        if reply.status == 200:
            reply.body = body
            reply.headers["Content-Encoding"] = "gzip"
        return reply

    return fault


def wrong_type(media_type: str) -> Fault:
    """Say that a document is something else."""

    def fault(request: Request, reply: Reply) -> Reply:
        reply.headers["Content-Type"] = media_type
        return reply

    return fault
