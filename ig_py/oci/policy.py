"""Policy files of the administrator and the user about images and registries.

``/etc/ig-py/policy.yaml`` and ``~/.ig/policy.yaml``, all keys optional::

    verify-image: true                  # --verify-image=false is refused
    public-keys: [/etc/ig-py/team.pub]  # PEM texts or files; no other key is trusted
    notation-certificates: [ca.pem]
    notation-policy-document: /etc/ig-py/trustpolicy.json
    allowed-gadgets: ["registry.example/gadgets/*"]
    disallow-pulling: true
    insecure-registries: ["127.0.0.1:5000"]       # no other registry may be insecure
    mirrors: {ghcr.io: "mirror.example/ghcr"}     # or a list, in the order to ask
    default-registry: registry.example/gadgets    # of names without registry

Each policy can only add restrictions: neither the user's file nor a flag removes one. With a
file that is not valid no image may be used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_py.errors import UsageError
from ig_py.host.safe_open import FileRefused, read_argument
from ig_py.oci.reference import DEFAULT_REGISTRY, RegistryLocation
from ig_py.records import dataclass, field, replace

if TYPE_CHECKING:
    from ig_py.oci.options import ResolveOptions

SYSTEM = Path("/etc/ig-py/policy.yaml")
USER = Path("~/.ig/policy.yaml")
MAX_FILE = 256 << 10
"""Bytes of a policy file."""

_FLAGS = ("verify-image", "disallow-pulling")
_LISTS = ("public-keys", "notation-certificates", "allowed-gadgets", "insecure-registries")
_LOCATION = re.compile(r"(?P<host>[A-Za-z0-9.\[\]:-]+)(?P<path>(?:/[a-z0-9._-]+)*)")
MAX_MIRRORS = 16
"""Mirrors of one registry."""


@dataclass(frozen=True)
class Policy:
    """The settings of one policy file; None: not set."""

    source: str
    verify_image: bool = False
    disallow_pulling: bool = False
    public_keys: tuple[str, ...] | None = None
    certificates: tuple[str, ...] | None = None
    trust_policy: str = ""
    allowed_gadgets: tuple[str, ...] | None = None
    insecure_registries: tuple[str, ...] | None = None
    mirrors: Mapping[str, Sequence[RegistryLocation]] = field(default_factory=dict)
    default_registry: RegistryLocation | None = None

    def tighten(self, options: ResolveOptions) -> ResolveOptions:
        """Restrict *options* to what this policy allows.

        Raises:
            UsageError: They ask for what it refuses.
        """
        if self.verify_image and not options.verify_image:
            raise self._refuses("images are verified: --verify-image=false is not allowed")
        if self.disallow_pulling:
            options = replace(options, disallow_pulling=True)
        if self.insecure_registries is not None:
            options = replace(options, insecure_registries=self.insecure(options))
        if self.allowed_gadgets is not None:
            lists = (*options.required_gadgets, self.allowed_gadgets or ("none",))
            options = replace(options, required_gadgets=lists)
        if self.public_keys is None and self.certificates is None:
            return options
        return replace(
            options,
            public_keys=self._keys(options),
            notation_certificates=self.certificates or (),
            notation_policy=self.trust_policy,
        )

    def insecure(self, options: ResolveOptions) -> tuple[str, ...]:
        return permitted(self, options.insecure_registries)

    def _keys(self, options: ResolveOptions) -> tuple[str, ...]:
        """This policy's public keys, or those of them that the user named."""
        from ig_py.oci.trust.keys import UPSTREAM, load_public_keys

        own = self.public_keys or ()
        if tuple(options.public_keys) in ((), (UPSTREAM,)):
            return own
        wanted = {key.id for key in load_public_keys(options.public_keys)}
        chosen = tuple(s for s in own if any(k.id in wanted for k in load_public_keys([s])))
        if not chosen:
            raise self._refuses("none of the given public keys is allowed")
        return chosen

    def _refuses(self, what: str) -> UsageError:
        return UsageError(f"{what} by {self.source}", remedy="ask this machine's administrator")


def permitted(policy: Policy, registries: Sequence[str]) -> tuple[str, ...]:
    """Those of *registries* that *policy* allows to be insecure."""
    if policy.insecure_registries is None:
        return tuple(registries)
    return tuple(r for r in registries if r in policy.insecure_registries)


def policies() -> list[Policy]:
    """The system's policy and the user's, as far as the files exist.

    Raises:
        UsageError: A policy file cannot be read or is not valid.
    """
    found = []
    for file in (SYSTEM, USER):
        try:
            path = file.expanduser()
        except RuntimeError:
            continue
        policy = _read(path)
        if policy is not None:
            found.append(policy)
    return found


def tighten(options: ResolveOptions) -> ResolveOptions:
    """Restrict *options* to what all policies allow.

    Raises:
        UsageError: A policy file is not valid, or refuses *options*.
    """
    for policy in policies():
        options = policy.tighten(options)
    return options


def insecure(registries: Sequence[str]) -> tuple[str, ...]:
    """Those of *registries* that all policies allow to be insecure."""
    for policy in policies():
        registries = permitted(policy, registries)
    return tuple(registries)


def default_registry() -> RegistryLocation:
    """The registry of names without one: as the first policy that names it says, or ``ig``'s.

    Raises:
        UsageError: A policy file cannot be read or is not valid.
    """
    for policy in policies():
        if policy.default_registry is not None:
            return policy.default_registry
    return DEFAULT_REGISTRY


_known: dict[Path, tuple[bytes, Policy]] = {}
"""Parsed files by path, each with the content that was parsed."""


def _read(path: Path) -> Policy | None:
    what = f"policy {path}"
    try:
        raw = read_argument(path, most=MAX_FILE, pipes=False)
    except FileRefused as err:
        if err.refusal == "absent":
            return None
        raise UsageError(f"reading {what}: {err.reason}") from None
    if path not in _known or _known[path][0] != raw:
        _known[path] = (raw, _parsed(raw, path, what))
    return _known[path][1]


def _parsed(raw: bytes, path: Path, what: str) -> Policy:
    from ig_py import yamlsafe

    document, _ = yamlsafe.load(raw, str(path))
    if not isinstance(document, dict):
        raise UsageError(f"{what}: not a mapping of settings")
    readers: dict[str, Callable[[Any, str], Any]] = {
        **dict.fromkeys(_FLAGS, _flag),
        **dict.fromkeys(_LISTS, _strings),
        "notation-policy-document": _string,
        "mirrors": _mirrors,
        "default-registry": _location,
    }
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key not in readers:
            raise UsageError(f"{what}: {str(key)[:80]!r} is not a setting of policies")
        values[key] = readers[key](value, f"{what}: {key}")
    return Policy(
        str(path),
        values.get("verify-image", False),
        values.get("disallow-pulling", False),
        values.get("public-keys"),
        values.get("notation-certificates"),
        values.get("notation-policy-document", ""),
        values.get("allowed-gadgets"),
        values.get("insecure-registries"),
        values.get("mirrors", {}),
        values.get("default-registry"),
    )


def _flag(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{what}: neither true nor false")
    return value


def _string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{what}: not a string")
    return value


def _strings(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UsageError(f"{what}: not a list")
    return tuple(_string(item, what) for item in value)


def _mirrors(value: Any, what: str) -> dict[str, tuple[RegistryLocation, ...]]:
    if not isinstance(value, dict):
        raise UsageError(f"{what}: not a mapping of registries")
    found = {}
    for key, given in value.items():
        mirrors = given if isinstance(given, list) else [given]
        if len(mirrors) > MAX_MIRRORS:
            raise UsageError(f"{what}: more than {MAX_MIRRORS} mirrors of one registry")
        found[_string(key, what)] = tuple(_location(mirror, what) for mirror in mirrors)
    return found


def _location(value: Any, what: str) -> RegistryLocation:
    match = _LOCATION.fullmatch(_string(value, what))
    if not match:
        raise UsageError(f"{what}: {value[:100]!r} is not host[:port][/path]")
    path = match["path"].removeprefix("/")
    return RegistryLocation(match["host"], f"{path}/" if path else "")
