"""HTTP to one registry, with requests; oras's back-end (:mod:`ig_py.oci.auth`) answers a 401.

oras's own client (``oras.provider.Registry``) is not used: it follows every redirect, has no
time limits, and verifies no digest of a manifest.

* Credentials go to the registry's own origin (scheme, host, port), and to a token
  service on the same host or on the list below; nowhere else (CVE-2026-48978,
  CVE-2026-50151, GHSA-vh4v-2xq2-g5cg).
* Redirects are followed by hand: downloads only, few, never from https to http.
* Every request has a bound on its whole duration and on what it reads.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from ig_py.errors import LimitError, RegistryDenied, RegistryError
from ig_py.oci import limits
from ig_py.oci.auth import HUB_HOST, Auth
from ig_py.oci.credentials import Credentials
from ig_py.oci.http_errors import (
    BROKEN,
    BUSY,
    FAILURES,
    cause,
    explain,
    origin,
    redacted,
    refusal,
)
from ig_py.oci.watchdog import Expired, Watchdog
from ig_py.records import dataclass
from ig_py.version import VERSION

MAX_REDIRECTS = 5
RETRY_DELAYS_S = (0.5, 1.5)
"""Pauses before something is tried again after a broken connection or a busy answer."""
MAX_RETRY_AFTER_S = 10.0
"""The longest pause that a registry may ask for."""
MAX_RESUMES = 5
"""How often a broken download is resumed."""
CHUNK = 1 << 18

_PERMANENT = (
    ssl.SSLError,
    socket.gaierror,
    ConnectionRefusedError,
    requests.exceptions.ConnectTimeout,
)
"""Failures that a retry would repeat."""

Body = Callable[[], Any]
"""Makes a request's body anew: bytes, or a file-like object with a length."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds, but *rate*: the slowest accepted transfer in bytes a second."""

    connect: float = 10.0
    read: float = 30.0
    request: float = 60.0
    rate: float = 16 * limits.KIB

    def transfer(self, size: int) -> float:
        """The bound for moving *size* bytes."""
        return self.request + size / self.rate


class Transport:
    """Requests to the registry *domain* for *scope* (``repository:NAME:pull``).

    *insecure*: plain HTTP, and no credentials whatsoever, unless *plain_credentials*.
    """

    def __init__(
        self,
        domain: str,
        *,
        scope: str,
        insecure: bool = False,
        credentials: Credentials | None = None,
        timeouts: Timeouts | None = None,
        plain_credentials: bool = False,
    ) -> None:
        host = HUB_HOST if domain == "docker.io" else domain
        self.domain = domain
        self.base = f"{'http' if insecure else 'https'}://{host}"
        self.timeouts = timeouts or Timeouts()
        self._insecure, self._scope = insecure, scope
        self._origin = origin(self.base)
        self._certificates = trusted_certificates()
        self._watchdog = Watchdog()
        self._session = requests.Session()
        # A registry that sets a cookie takes its return for a browser's request (Harbor).
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # .netrc would be another source of credentials; proxies are looked up per request.
        self._session.trust_env = False
        for prefix in ("http://", "https://"):
            self._session.mount(prefix, self._watchdog.adapter())
        known = credentials if credentials is not None else Credentials()
        if insecure and not plain_credentials:
            known = Credentials()
        self._known = known
        self._auth = Auth(self, self.base, known, scope)

    def clone(self) -> Transport:
        """The same transport over other connections, for another thread."""
        copy = Transport(
            self.domain, scope=self._scope, insecure=self._insecure, credentials=self._known,
            timeouts=self.timeouts, plain_credentials=True,
        )  # fmt: skip
        copy._auth.adopt(self._auth)
        return copy

    def abort(self) -> None:
        """Abort the request of another thread, which raises there."""
        self._watchdog.abort()

    def close(self) -> None:
        self._session.close()
        self._watchdog.close()

    def read(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        limit: int = limits.MAX_TOKEN,
        ok: tuple[int, ...] = (200,),
        seconds: float | None = None,
        elsewhere: bool = False,
    ) -> tuple[requests.Response, bytes]:
        """One request and all of its answer, at most *limit* bytes.

        *elsewhere*: redirects to other hosts are followed, by HTTPS and without credentials.

        Raises:
            RegistryUnavailable: The registry breaks off or is busy.
            RegistryDenied: It refuses the credentials or the lack of them.
            RegistryNotFound: It does not have what is asked for.
            RegistryError: It cannot be reached, is too slow, or answers otherwise than *ok* says.
            LimitError: The answer is larger than *limit*.
        """
        bound = self.timeouts.request if seconds is None else seconds
        what = f"{method} {redacted(url)}"
        with self._bounded(what, bound):
            response = self._retried(method, url, headers or {}, body, elsewhere=elsewhere)
            try:
                if response.status_code not in ok:
                    raise self._refusal(response, what)
                return response, _capped(response, limit, what)
            finally:
                response.close()

    def stream(self, url: str, size: int) -> Iterator[bytes]:
        """Download *size* bytes, resumed after a broken connection; the caller verifies them.

        Raises:
            RegistryError: As :meth:`read`, also one of its kinds.
        """
        what = f"GET {redacted(url)}"
        received, resumes, pauses = 0, 0, list(RETRY_DELAYS_S)
        with self._bounded(what, self.timeouts.transfer(size)):
            while True:
                start = received
                try:
                    for chunk in self._from(url, received, what):
                        received += len(chunk)
                        yield chunk
                    return
                except BROKEN:
                    resumes += 1
                    if received > start:
                        pauses = list(RETRY_DELAYS_S)
                    if not pauses or resumes > MAX_RESUMES or self._watchdog.expired:
                        raise
                time.sleep(pauses.pop(0))

    def _from(self, url: str, offset: int, what: str) -> Iterator[bytes]:
        """The content from *offset* on, also from a registry without range requests."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._retried("GET", url, headers, None, elsewhere=True)
        try:
            if response.status_code not in (200, 206) or (response.status_code, offset) == (206, 0):
                raise self._refusal(response, what)
            skip = offset
            if response.status_code == 206:
                given = response.headers.get("Content-Range", "")
                if not given.startswith(f"bytes {offset}-"):
                    raise RegistryError(f"{what}: sent {given[:80]!r} instead of byte {offset} on")
                skip = 0
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                rest = chunk[skip:]
                skip -= len(chunk) - len(rest)
                if rest:
                    yield rest
        finally:
            response.close()

    def token_request(
        self,
        method: str,
        realm: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        authorization: str = "",
    ) -> bytes:
        """Ask a checked *realm* for a token.

        Raises:
            RegistryDenied: The token service refuses the credentials.
            RegistryError: It answers otherwise.
            LimitError: Its answer is too large.
        """
        headers = {"Authorization": authorization} if authorization else {}
        response = self._send(method, realm, headers, form, query)
        try:
            if response.status_code != 200:
                error = RegistryDenied if response.status_code in (400, 401, 403) else RegistryError
                raise error(
                    f"{what}: the token service {redacted(realm)} answered {response.status_code}"
                )
            return _capped(response, limits.MAX_TOKEN, f"token of {redacted(realm)}")
        finally:
            response.close()

    def _retried(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, *,
        elsewhere: bool,
    ) -> requests.Response:  # fmt: skip
        delays = list(RETRY_DELAYS_S) if method in ("GET", "HEAD") else []
        asked = 0.0
        while True:
            try:
                response = self._authorized(method, url, headers, body, elsewhere)
            except requests.exceptions.ConnectionError as err:
                if not delays or self._watchdog.expired or cause(err, _PERMANENT):
                    raise
            else:
                if response.status_code not in BUSY or not delays:
                    return response
                asked = _retry_after(response)
                response.close()
            time.sleep(max(asked, delays.pop(0)))

    def _authorized(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, elsewhere: bool
    ) -> requests.Response:
        response = self._followed(method, url, headers, body, elsewhere)
        if response.status_code != 401 or origin(response.url) != self._origin:
            return response
        _, answered = self._auth.authenticate_request(response, {})
        if not answered:
            return response
        response.close()
        return self._followed(method, url, headers, body, elsewhere)

    def _followed(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, elsewhere: bool
    ) -> requests.Response:
        for _ in range(MAX_REDIRECTS + 1):
            extra = self._auth.get_auth_header() if origin(url) == self._origin else {}
            response = self._send(method, url, {**headers, **extra}, body and body(), None)
            target = response.headers.get("Location", "")
            if response.status_code not in (301, 302, 303, 307, 308) or not target:
                return response
            response.close()
            if method not in ("GET", "HEAD"):
                raise RegistryError(f"{method} {redacted(url)}: redirected, which is not allowed")
            url = self.check_location(url, target, elsewhere=elsewhere)
        raise RegistryError(f"{method} {redacted(url)}: more than {MAX_REDIRECTS} redirects")

    def check_location(self, url: str, target: str, *, elsewhere: bool) -> str:
        """The absolute form of a Location header, if it is allowed."""
        absolute = urljoin(url, target)
        if origin(absolute) == self._origin:
            return absolute
        if not elsewhere:
            raise RegistryError(
                f"{redacted(url)}: redirects to another server: {redacted(absolute)}"
            )
        if urlsplit(absolute).scheme != "https":
            raise RegistryError(
                f"{redacted(url)}: redirects to a server without HTTPS: {redacted(absolute)}"
            )
        return absolute

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], data: Any,
        query: Mapping[str, str] | None,
    ) -> requests.Response:  # fmt: skip
        response: requests.Response = self._session.request(
            method,
            url,
            data=data,
            params=query,
            headers={
                "User-Agent": f"ig-py/{VERSION}",
                "Accept-Encoding": "identity",
                **headers,
            },
            timeout=(self.timeouts.connect, self.timeouts.read),
            allow_redirects=False,
            stream=True,
            verify=self._certificates,
            proxies=proxies(url),
        )
        return response

    def _refusal(self, response: requests.Response, what: str) -> RegistryError:
        try:
            body = _capped(response, limits.MAX_TOKEN, what).decode(errors="replace")
        except (LimitError, *FAILURES):
            body = ""
        return refusal(
            response.status_code,
            response.reason,
            body,
            what=what,
            domain=self.domain,
            authorized=bool(self._auth.get_auth_header()),
            problem=self._known.problem,
        )

    @contextmanager
    def _bounded(self, what: str, seconds: float) -> Iterator[None]:
        try:
            with self._watchdog.limit(seconds):
                yield
        except Expired:
            raise RegistryError(
                f"{what}: the registry is too slow: not done after {seconds:g} s"
            ) from None
        except FAILURES as err:
            raise explain(err, what, self.domain) from err


def trusted_certificates() -> str | bool:
    """The system's CA file or directory as OpenSSL finds it; certifi's without one."""
    paths = ssl.get_default_verify_paths()
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        if os.environ.get(name):
            return os.environ[name]
    if paths.cafile:
        return paths.cafile
    if paths.capath and any(Path(paths.capath).iterdir()):
        return paths.capath
    return True


def proxies(url: str) -> dict[str, str]:
    """Proxies from the environment; none for this machine's own addresses."""
    host = (urlsplit(url).hostname or "").lower()
    if host in ("localhost", "::1") or host.startswith("127."):
        return {}
    return dict(requests.utils.get_environ_proxies(url))


def _retry_after(response: requests.Response) -> float:
    """Seconds of a Retry-After header; its date form is ignored."""
    text = response.headers.get("Retry-After", "").strip()
    return min(float(text), MAX_RETRY_AFTER_S) if text.isascii() and text.isdigit() else 0.0


def _capped(response: requests.Response, limit: int, what: str) -> bytes:
    parts, size = [], 0
    for chunk in response.raw.stream(CHUNK, decode_content=False):
        size += len(chunk)
        if size > limit:
            raise LimitError(f"{what}: answered with more than {limits.human(limit)}")
        parts.append(chunk)
    return b"".join(parts)
