"""Log-in and log-out: credentials are checked with the registry and stored."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ig_py.errors import RegistryError, UsageError
from ig_py.host.scratch import new_file
from ig_py.oci import credentials, lock
from ig_py.oci.credentials import DEFAULT_AUTH_FILE, Credentials
from ig_py.oci.transport import Timeouts, Transport

MAX_PASSWORD = 100 << 10
"""Bytes of a password on standard input."""
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d+)?")
_HUB_KEY = "https://index.docker.io/v1/"


def is_registry(text: str) -> bool:
    """Is *text* ``host[:port]``?"""
    return _REGISTRY.fullmatch(text) is not None


def check_registry(registry: str) -> None:
    """Check that *registry* is ``host[:port]``.

    Raises:
        UsageError: It is not.
    """
    if not is_registry(registry):
        raise UsageError(
            f'invalid registry address: invalid reference: invalid registry "{registry[:200]}"'
        )


def login(
    registry: str,
    username: str,
    password: str,
    *,
    authfile: str | None = None,
    plain_http: bool = False,
    timeouts: Timeouts | None = None,
) -> str:
    """Try the credentials on ``/v2/`` and store them; returns the file or the helper.

    Raises:
        UsageError: The registry's name or the credentials are malformed.
        RegistryDenied: The registry refuses the credentials.
        RegistryError: They cannot be tried, or not be kept.
    """
    check_registry(registry)
    if not username or not password:
        raise UsageError("username and password are required")
    if ":" in username or re.search(r"[\x00-\x1f\x7f]", username + password):
        raise UsageError(
            "a username must not contain a colon, and neither it nor a password control characters"
        )
    known = Credentials(username, password)
    http = Transport(
        registry, scope="", insecure=plain_http, credentials=known, timeouts=timeouts,
        plain_credentials=plain_http,
    )  # fmt: skip
    try:
        http.read("GET", f"{http.base}/v2/")
    finally:
        http.close()
    path = Path(authfile or os.environ.get(credentials.AUTH_FILE_VARIABLE) or DEFAULT_AUTH_FILE)
    with _changed(path) as config:
        helper = _helper(config, registry, path)
        if helper:
            credentials.ask_helper(
                helper, "store",
                json.dumps({"ServerURL": _key(registry), "Username": username, "Secret": password}),
            )  # fmt: skip
            _section(config, "auths", path).pop(_key(registry), None)
            return f"docker-credential-{helper}"
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        _section(config, "auths", path)[_key(registry)] = {"auth": pair}
    return str(path)


def logout(registry: str, *, authfile: str | None = None) -> None:
    """Delete the credentials of *registry*, or of all registries when it is empty.

    Raises:
        UsageError: The registry's name is malformed.
        RegistryError: There are none, or the file cannot be read or written.
    """
    if registry:
        check_registry(registry)
    path = Path(authfile or os.environ.get(credentials.AUTH_FILE_VARIABLE) or DEFAULT_AUTH_FILE)
    if not path.exists():
        raise RegistryError(f"not logged in to {registry or 'any registry'}")
    with _changed(path) as config:
        auths = _section(config, "auths", path)
        helpers = _section(config, "credHelpers", path)
        if not registry:
            for name in [*auths, *helpers]:
                _erase(config, name, path)
            auths.clear()
            return
        erased = _erase(config, _key(registry), path)
        if auths.pop(_key(registry), None) is None and not erased:
            raise RegistryError(f"not logged in to {registry}")


def _key(registry: str) -> str:
    return _HUB_KEY if registry in ("docker.io", "index.docker.io") else registry


def _helper(config: dict[str, Any], registry: str, path: Path) -> str:
    found = _section(config, "credHelpers", path).get(registry) or config.get("credsStore")
    return str(found or "")


def _erase(config: dict[str, Any], name: str, path: Path) -> bool:
    """Did a credential helper delete the credentials of *name*?"""
    helper = _helper(config, name, path)
    if not helper:
        return False
    with suppress(RegistryError):
        credentials.ask_helper(helper, "erase", name)
        return True
    return False


def _section(config: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    section = config.setdefault(key, {})
    if not isinstance(section, dict):
        raise RegistryError(f'loading auth config "{path}": {key} is not an object')
    return section


@contextmanager
def _changed(path: Path) -> Iterator[dict[str, Any]]:
    """The file's content, written back in one rename when the block succeeds; only its owner
    can read it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock.exclusive(path.with_name(f".{path.name}.lock")):
            before = credentials.load_file(path) if path.exists() else {}
            config = json.loads(json.dumps(before))
            yield config
            for key in ("auths", "credHelpers"):
                if key not in before and not config.get(key):
                    config.pop(key, None)
            if config != before:
                _replace(path, json.dumps(config, indent="\t").encode())
    except OSError as err:
        raise RegistryError(
            f"writing {path}: {err.strerror}", remedy="name a file of your own with --authfile"
        ) from err


def _replace(path: Path, content: bytes) -> None:
    # A symbolic link to the file stays a link.
    target = path.resolve()
    with new_file(target, 0o600) as file:
        file.write(content)
