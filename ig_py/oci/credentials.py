"""Registry credentials from docker's config.json format.

Facts: docs/reference/image-format.md#credentials.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from ig_py.errors import IntegrityError, LimitError, RegistryError
from ig_py.host.safe_open import FileRefused, read_argument
from ig_py.oci import limits
from ig_py.oci.document import load_json
from ig_py.records import dataclass, field

DEFAULT_AUTH_FILE = Path("/var/lib/ig/config.json")
AUTH_FILE_VARIABLE = "REGISTRY_AUTH_FILE"
HELPER_TIMEOUT_S = 30.0
MAX_HELPER_OUTPUT = 64 * limits.KIB

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DOCKER_HUB = ("docker.io", "index.docker.io")
_TOKEN_USER = "<token>"


@dataclass(frozen=True)
class Credentials:
    """Credentials for one registry; an empty field is unknown.

    *problem* says why a credential helper did not give any: nothing is wrong with that while the
    registry asks for none.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    problem: str = ""

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.access_token)

    @property
    def basic(self) -> str:
        """The value of an Authorization header; empty without user name."""
        if not self.username:
            return ""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def find_auth_file(explicit: str | None) -> Path | None:
    """The file to read: *explicit*, ``$REGISTRY_AUTH_FILE``, ig's own, then docker's.

    The first two must exist; of the others, the first that exists is read.
    """
    chosen = explicit or os.environ.get(AUTH_FILE_VARIABLE)
    # The default of --authfile counts as not given: that file need not exist.
    if explicit == str(DEFAULT_AUTH_FILE):
        chosen = os.environ.get(AUTH_FILE_VARIABLE)
    if chosen:
        return Path(chosen)
    if DEFAULT_AUTH_FILE.exists():
        return DEFAULT_AUTH_FILE
    folder = os.environ.get("DOCKER_CONFIG")
    with suppress(RuntimeError):
        docker = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
        if docker.exists():
            return docker
    return None


def lookup(domain: str, authfile: str | None = None) -> Credentials:
    """Credentials for the registry *domain* (``host[:port]``); empty ones when none are known.

    A helper that is missing or fails has none: most registries are read without.

    Raises:
        RegistryError: A file cannot be read or is malformed.
    """
    path = find_auth_file(authfile)
    if path is None:
        return Credentials()
    config = load_file(path)
    problem = ""
    for name in _names(domain):
        helper = _map(config, "credHelpers", path).get(name) or config.get("credsStore")
        if helper:
            try:
                found = _from_helper(str(helper), name)
            except RegistryError as err:
                problem = problem or err.message
                continue
            if found:
                return found
    auths = _map(config, "auths", path)
    for key, entry in sorted(auths.items(), key=lambda item: item[0] not in _names(domain)):
        if _host(key) in _names(domain) and isinstance(entry, dict):
            found = _from_entry(entry, f"{path}: {key}")
            if found:
                return found
    return Credentials(problem=problem)


def _names(domain: str) -> tuple[str, ...]:
    return ("https://index.docker.io/v1/", *_DOCKER_HUB) if domain in _DOCKER_HUB else (domain,)


def _host(key: str) -> str:
    return re.sub(r"^https?://", "", key).partition("/")[0]


def load_file(path: Path) -> dict[str, Any]:
    """A docker config.json.

    Raises:
        RegistryError: It cannot be read, or is not a JSON object.
    """
    try:
        raw = read_argument(path, most=limits.MAX_AUTH_FILE, pipes=False)
    except FileRefused as err:
        raise RegistryError(f'opening auth file "{path}": {err.reason}') from None
    try:
        config = load_json(raw, f'loading auth config "{path}"', limits.MAX_AUTH_FILE)
    except (IntegrityError, LimitError) as err:
        raise RegistryError(err.message) from err
    if not isinstance(config, dict):
        raise RegistryError(f'loading auth config "{path}": not a JSON object')
    return config


def _map(config: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise RegistryError(f'loading auth config "{path}": {key} is not an object')
    return value


def _from_entry(entry: dict[str, Any], what: str) -> Credentials:
    def text(key: str) -> str:
        value = entry.get(key)
        return value if isinstance(value, str) else ""

    username, password = text("username"), text("password")
    if text("auth"):
        try:
            decoded = base64.b64decode(text("auth"), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise RegistryError(f"loading auth config {what}: auth is not base64") from None
        username, colon, password = decoded.rstrip("\0").partition(":")
        if not colon:
            raise RegistryError(f"loading auth config {what}: auth is not user:password")
    return Credentials(username, password, text("identitytoken"), text("registrytoken"))


def _from_helper(helper: str, server: str) -> Credentials:
    """Credentials from ``docker-credential-HELPER``; empty when it has none for *server*."""
    output = ask_helper(helper, "get", server)
    if not output:
        return Credentials()
    try:
        answer = json.loads(output)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryError(
            f"asking docker-credential-{helper} about {server}: its answer is not valid"
        ) from None
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username, secret)


def ask_helper(helper: str, verb: str, text: str) -> bytes:
    """Run ``docker-credential-HELPER VERB`` with *text* as its input.

    Returns:
        Its output; nothing when it has no credentials.

    Raises:
        RegistryError: Its name is not valid, it does not run, fails, or does not answer in time.
    """
    if not _HELPER.fullmatch(helper):
        raise RegistryError(f"credential helper {helper[:80]!r}: not a valid name")
    program = f"docker-credential-{helper}"
    what = f"asking {program} about {text}" if verb == "get" else f"{program} {verb}"
    try:
        done = subprocess.run(
            [program, verb],
            input=text.encode(),
            capture_output=True,
            timeout=HELPER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        # Not the whole error: its text may contain the secret.
        reason = getattr(err, "strerror", None) or "no answer in time"
        raise RegistryError(f"{what}: {reason}: {program}") from err
    output = done.stdout[: MAX_HELPER_OUTPUT + 1]
    if done.returncode != 0:
        if b"credentials not found" in output:
            return b""
        reason = (output or done.stderr)[:200].decode(errors="replace").strip()
        raise RegistryError(f"{what}: {reason or f'exit code {done.returncode}'}")
    return output
