"""Answers a registry's authentication challenge; credentials go to no other server.

This is where the ``oras`` package serves: :class:`Auth` is one of its authentication back-ends
(``oras.auth``), so that its client, too, may use it. What the package's own back-end does not
do is done here: it shows credentials to whatever token service a registry names, reads answers
of any size, and knows neither identity tokens nor a challenge's scheme.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from oras.auth.token import TokenAuth

from ig_py.errors import RegistryDenied, RegistryError
from ig_py.oci import limits
from ig_py.oci.credentials import Credentials
from ig_py.oci.document import load_json
from ig_py.oci.http_errors import origin, redacted

if TYPE_CHECKING:
    import requests

HUB_HOST = "registry-1.docker.io"
_REALM_HOSTS = {
    HUB_HOST: frozenset({"auth.docker.io"}),
    "registry.gitlab.com": frozenset({"gitlab.com"}),
}
"""Registry → host of its token service, where that is another host."""
_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9-]*)(?![^\s,])")
_TOKEN68 = re.compile(r"\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|\Z))")
_PARAMETER = re.compile(r'[\s,]*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MAX_CHALLENGE = 8 * limits.KIB


class TokenClient(Protocol):
    """What sends the request to a token service."""

    def token_request(
        self,
        method: str,
        realm: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        authorization: str = "",
    ) -> bytes: ...


class Auth(TokenAuth):  # type: ignore[misc]
    """Answers challenges for *scope*; what it obtains is for the registry's origin, *base*.

    Inherited from oras: the token, and its header.
    """

    def __init__(
        self, client: TokenClient, base: str, credentials: Credentials, scope: str
    ) -> None:
        super().__init__()
        self.token: str | None
        self._client = client
        self._origin = origin(base)
        self._credentials = credentials
        self._scope = scope
        self._basic = ""
        if credentials.access_token:
            self.set_token_auth(credentials.access_token)

    def adopt(self, other: Auth) -> None:
        """Take over what *other* obtained for the same registry."""
        self.token, self._basic = other.token, other._basic

    def get_auth_header(self) -> dict[str, str]:
        """The Authorization header that requests to the registry have; empty without one."""
        if self._basic:
            return {"Authorization": self._basic}
        header: dict[str, str] = super().get_auth_header()
        return header

    def authenticate_request(
        self, original: requests.Response, headers: dict[str, str], refresh: bool = False
    ) -> tuple[dict[str, str], bool]:
        """Obtain what *original*, the registry's refusal, asks for.

        Returns:
            *headers* with what to show, and whether to ask again. A token is never kept from
            an earlier challenge, so *refresh* changes nothing.

        Raises:
            RegistryDenied: Credentials are needed and not known, are refused, or would go to a
                token service that is not the registry's.
            RegistryError: The token service cannot be asked.
        """
        challenge = original.headers.get("WWW-Authenticate", "")
        if not challenge:
            return headers, False
        what = f"{original.request.method} {redacted(original.url)}"
        scheme, params = parse_challenge(challenge)
        self._basic = ""
        if scheme == "bearer":
            self.set_token_auth(self._token(params, what))
        elif scheme == "basic" and self._credentials.basic:
            self._basic = self._credentials.basic
        elif scheme == "basic":
            raise RegistryDenied(
                f"{what}: the registry wants credentials and none are known{self._why_none()}",
                remedy="name a file that has them with --authfile",
            )
        else:
            raise RegistryDenied(
                f"{what}: the registry's authentication challenge is not supported"
            )
        return {**headers, **self.get_auth_header()}, True

    def _why_none(self) -> str:
        problem = self._credentials.problem
        return f" ({problem})" if problem else ""

    def _token(self, params: Mapping[str, str], what: str) -> str:
        realm = params.get("realm", "")
        # Without credentials there is nothing that another host could learn by being asked.
        if self._credentials or not _is_https(realm):
            realm = self.check_realm(realm, what)
        query = {"service": params.get("service", "")}
        if self._scope:
            query["scope"] = self._scope
        refresh = self._credentials.identity_token
        if refresh:
            form = {**query, "grant_type": "refresh_token", "client_id": "ig-py",
                    "refresh_token": refresh}  # fmt: skip
            raw = self._client.token_request("POST", realm, what, form=form)
        else:
            try:
                raw = self._client.token_request(
                    "GET", realm, what, query=query, authorization=self._credentials.basic
                )
            except RegistryDenied as err:
                raise RegistryDenied(
                    f"{err.message}{self._why_none()}", remedy=err.remedy, detail=err.detail
                ) from None
        answer = load_json(raw, f"{what}: token", limits.MAX_TOKEN)
        token = isinstance(answer, dict) and (answer.get("token") or answer.get("access_token"))
        # A line break in a token would start another header.
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise RegistryDenied(f"{what}: the token service gave no token")
        return token

    def check_realm(self, realm: str, what: str) -> str:
        """*realm*, when credentials may be shown to it.

        Raises:
            RegistryDenied: They may not.
        """
        try:
            scheme, host, _ = origin(realm)
        except RegistryError:
            scheme, host = "", ""
        own = self._origin[1]
        trusted = bool(host) and host in {own, *_REALM_HOSTS.get(own, ())}
        if trusted and (scheme == "https" or origin(realm) == self._origin):
            return realm
        raise RegistryDenied(
            f"{what}: the registry names a token service that is not its own: "
            f"{redacted(realm)[:200]!r}; no credentials were sent"
        )


def _is_https(url: str) -> bool:
    try:
        return origin(url)[0] == "https"
    except RegistryError:
        return False


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """The challenge to answer, of those in *header* (RFC 9110, section 11.6.1).

    A server may offer several, in one header or in several that are joined by commas: a token is
    preferred to a password, which is preferred to what is not known.

    Returns:
        The scheme in lower case, and its parameters by their names in lower case; an empty scheme
        when there is none.
    """
    found = list(_challenges(header[:_MAX_CHALLENGE]))
    for wanted in ("bearer", "basic"):
        for scheme, params in found:
            if scheme == wanted:
                return scheme, params
    return found[0] if found else ("", {})


def _challenges(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    position = 0
    while match := _SCHEME.match(header, position):
        scheme, params = match[1].lower(), dict[str, str]()
        position = match.end()
        if token := _TOKEN68.match(header, position):
            position = token.end()
        while match := _PARAMETER.match(header, position):
            value = match[2] if match[2] is not None else match[3]
            params.setdefault(match[1].lower(), re.sub(r"\\(.)", r"\1", value))
            position = match.end()
        yield scheme, params
