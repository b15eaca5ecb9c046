"""Trust policy documents of the Notary Project: which signatures a repository needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ig_py.errors import IntegrityError, LimitError, UsageError, VerificationError
from ig_py.oci.document import load_json
from ig_py.oci.trust.certificates import parse_name
from ig_py.oci.trust.keys import text_or_file
from ig_py.oci.trust.model import MAX_KEY_FILE
from ig_py.records import dataclass

ENFORCE, LOG, SKIP = "enforce", "log", "skip"
ASPECTS = ("integrity", "authenticity", "authenticTimestamp", "expiry", "revocation")
_LEVELS = {
    "strict": (ENFORCE, ENFORCE, ENFORCE, ENFORCE, ENFORCE),
    "permissive": (ENFORCE, ENFORCE, LOG, LOG, LOG),
    "audit": (ENFORCE, LOG, LOG, LOG, LOG),
    "skip": (SKIP, SKIP, SKIP, SKIP, SKIP),
}
_STORE = re.compile(r"(ca|signingAuthority|tsa):([A-Za-z0-9_.-]+)")
_SCOPE = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d+)?(?:/[a-z0-9._-]+)+")
_IDENTITY = "x509.subject:"


@dataclass(frozen=True)
class Policy:
    """*actions*: action by each of :data:`ASPECTS`. *identities*: subjects of which one must
    match, None for any. *store_type*: ``ca`` or ``signingAuthority``.
    """

    name: str
    scopes: tuple[str, ...]
    actions: Mapping[str, str]
    store_type: str
    identities: tuple[Mapping[str, str], ...] | None

    def trusts(self, subject: Mapping[str, str]) -> bool:
        """Has a signer with this subject all the attributes of a trusted identity?"""
        if self.identities is None:
            return True
        return any(identity.items() <= subject.items() for identity in self.identities)


def load(source: str) -> list[Policy]:
    """Policies from a JSON text or a file.

    Raises:
        UsageError: The file cannot be read, or the policies are not valid.
    """
    text = text_or_file(source, "notation trust policy", marker="{")
    try:
        document = load_json(text.encode(), "notation trust policy", MAX_KEY_FILE)
    except (IntegrityError, LimitError) as err:
        raise UsageError(err.message) from err
    if not isinstance(document, dict):
        raise _bad("not a JSON object")
    version = document.get("version")
    if not version:
        raise _bad("has empty version, version must be specified")
    if version != "1.0":
        raise _bad(f"version {str(version)[:40]!r} is unknown")
    listed = document.get("trustPolicies")
    if not isinstance(listed, list) or not listed:
        raise _bad("has no policies")
    policies = [_policy(item) for item in listed]
    names = [p.name for p in policies]
    scopes = [scope for p in policies for scope in p.scopes]
    for values, what in ((names, "name"), (scopes, "registry scope")):
        twice = {v for v in values if values.count(v) > 1}
        if twice:
            raise _bad(f"{what} {min(twice)!r} is used twice")
    return policies


def select(policies: Sequence[Policy], repository: str) -> Policy:
    """The policy of *repository*, else that of scope ``*``.

    Raises:
        VerificationError: There is no such policy.
    """
    for wanted in (repository, "*"):
        for policy in policies:
            if wanted and wanted in policy.scopes:
                return policy
    shown = repository or "an image without a name"
    raise VerificationError(f"the notation trust policy has no policy for {shown}")


def _policy(item: Any) -> Policy:
    if not isinstance(item, dict):
        raise _bad("a policy is not a JSON object")
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise _bad("a policy has no name")
    scopes = _strings(item, "registryScopes", name)
    for scope in scopes:
        if scope != "*" and not _SCOPE.fullmatch(scope):
            raise _bad(f"policy {name!r}: registry scope {scope[:100]!r} is not a repository")
    if "*" in scopes and len(scopes) > 1:
        raise _bad(f"policy {name!r}: the scope * must be the only one")
    actions = _actions(item.get("signatureVerification"), name)
    if actions["integrity"] == SKIP:
        if item.get("trustStores") or item.get("trustedIdentities"):
            raise _bad(f"policy {name!r}: skips verification, and has trust stores or identities")
        return Policy(name, scopes, actions, "", None)
    stores = _strings(item, "trustStores", name)
    matches = [_STORE.fullmatch(store) for store in stores]
    if len(stores) > 1:
        raise _bad(f"policy {name!r}: trust policies with multiple trust stores are unsupported")
    if matches[0] is None or matches[0][1] == "tsa":
        raise _bad(f"policy {name!r}: trust store {stores[0][:100]!r} is not supported")
    return Policy(name, scopes, actions, matches[0][1], _identities(item, name))


def _identities(item: Mapping[str, Any], name: str) -> tuple[Mapping[str, str], ...] | None:
    listed = _strings(item, "trustedIdentities", name)
    if listed == ("*",):
        return None
    found = []
    for identity in listed:
        if not identity.startswith(_IDENTITY):
            raise _bad(f"policy {name!r}: trusted identity {identity[:100]!r} is not supported")
        found.append(parse_name(identity.removeprefix(_IDENTITY).strip()))
    return tuple(found)


def _actions(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _bad(f"policy {name!r}: has no signatureVerification")
    level = value.get("level")
    if not isinstance(level, str) or level not in _LEVELS:
        raise _bad(f"policy {name!r}: level {str(level)[:40]!r} is unknown")
    actions = dict(zip(ASPECTS, _LEVELS[level], strict=True))
    override = value.get("override") or {}
    if not isinstance(override, dict) or (override and level == "skip"):
        raise _bad(f"policy {name!r}: its override is not supported")
    for aspect, action in override.items():
        allowed = {ENFORCE, LOG, SKIP} - ({SKIP} if aspect == "authenticity" else set())
        if aspect not in ASPECTS[1:] or not isinstance(action, str) or action not in allowed:
            raise _bad(f"policy {name!r}: {str(aspect)[:40]} cannot be {str(action)[:40]!r}")
        actions[aspect] = action
    return actions


def _strings(item: Mapping[str, Any], key: str, name: str) -> tuple[str, ...]:
    value = item.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise _bad(f"policy {name!r}: {key} is not a list of strings")
    return tuple(value)


def _bad(reason: str) -> UsageError:
    return UsageError(f"notation trust policy: {reason}")
