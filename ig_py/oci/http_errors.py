"""HTTP failures as errors that users understand; URLs without secrets."""

from __future__ import annotations

import http.client
import ssl
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3

from ig_py.errors import (
    IntegrityError,
    LimitError,
    RegistryDenied,
    RegistryError,
    RegistryNotFound,
    RegistryUnavailable,
)
from ig_py.oci.document import load_json

FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)
"""Exceptions that a request may raise."""
BUSY = (429, 500, 502, 503, 504)
"""Status codes after which the same request may succeed later."""
BROKEN = (
    ConnectionError,
    http.client.RemoteDisconnected,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.ReadTimeoutError,
)
"""Exceptions of a connection that broke after it was established."""

_PLAIN_HTTP_REASONS = {
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "PACKET_LENGTH_TOO_LONG",
}


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port).

    Raises:
        RegistryError: *url* is not an http or https URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        if not parts.hostname or parts.username is not None:
            raise ValueError
    except (ValueError, KeyError):
        raise RegistryError(f"the registry answered with an invalid URL: {url[:200]!r}") from None
    return parts.scheme, parts.hostname, port


def redacted(url: str) -> str:
    """*url* without query and user, which carry secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def explain(err: Exception, what: str, domain: str) -> RegistryError:
    """*err*, one of :data:`FAILURES`, as an error that says what to do about it."""
    reason, remedy = str(err)[:300], ""
    tls = cause(err, ssl.SSLError)
    system = cause(err, OSError, not_a=requests.RequestException)
    broken = (urllib3.exceptions.IncompleteRead, http.client.IncompleteRead)
    if isinstance(tls, ssl.SSLCertVerificationError):
        reason = f"its certificate is not trusted: {tls.verify_message}"
        remedy = "name the authority's certificate file with SSL_CERT_FILE"
    elif tls is not None and tls.reason in _PLAIN_HTTP_REASONS:
        reason = "the registry does not speak HTTPS"
        remedy = f"if it speaks plain HTTP, allow it by --insecure-registries {domain}"
    elif isinstance(err, requests.exceptions.ConnectTimeout):
        reason = "the connection could not be established in time"
    elif cause(err, (requests.exceptions.ReadTimeout, TimeoutError)):
        reason = "the registry sent nothing for too long"
    elif cause(err, broken) or cause(err, http.client.RemoteDisconnected):
        reason = "the registry closed the connection early"
    elif system is not None and system.strerror:
        reason = system.strerror[0].lower() + system.strerror[1:]
    gone = cause(err, BROKEN) and not cause(err, ConnectionRefusedError)
    kind = RegistryUnavailable if gone else RegistryError
    return kind(f"{what}: {reason}", remedy=remedy, detail=str(err))


def refusal(
    status: int,
    reason: str | None,
    body: str,
    *,
    what: str,
    domain: str,
    authorized: bool,
    problem: str = "",
) -> RegistryError:
    """The error for an unexpected status code; *problem*: why no credentials are known."""
    text = f"{what}: response status code {status}: {_error_text(body, reason)}"
    if status == 404:
        told = _error_text(body, "")
        return RegistryNotFound(f"{what}: not found{': ' if told else ''}{told}", detail=body)
    if status in (401, 403):
        remedy = "" if authorized else "name a file with credentials with --authfile"
        return RegistryDenied(
            f"{text} ({problem})" if problem else text, remedy=remedy, detail=body
        )
    if status == 400 and "HTTPS server" in body:
        return RegistryError(
            f"{what}: the registry speaks HTTPS",
            remedy=f"leave {domain} out of --insecure-registries",
        )
    kind = RegistryUnavailable if status in BUSY else RegistryError
    return kind(text, detail=body)


def _error_text(body: str, reason: str | None) -> str:
    """The message of a registry's JSON error, or the HTTP reason."""
    try:
        error = load_json(body.encode(), "")["errors"][0]
        return f"{error['code']}: {error['message']}"[:300]
    except (IntegrityError, LimitError, LookupError, TypeError):
        return str(reason or "")[:100]


def cause(err: BaseException | None, kind: Any, not_a: Any = ()) -> Any:
    """The first exception of *kind* among *err* and its causes; None without one."""
    seen = 0
    while err is not None and seen < 20:
        if isinstance(err, kind) and not isinstance(err, not_a):
            return err
        inner = next(
            (a for a in (getattr(err, "reason", None), *err.args) if isinstance(a, BaseException)),
            None,
        )
        err, seen = inner or err.__cause__ or err.__context__, seen + 1
    return None
