"""Untrusted documents end in an IgPyError or in a valid signature, never in another exception."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import image

from ig_py.errors import IgPyError
from ig_py.oci.trust import cosign, privatekeys, trustpolicy
from ig_py.oci.trust.envelope import Envelope
from ig_py.oci.trust.keys import UPSTREAM, load_public_keys

ROOT = image("a").index
KEYS = load_public_keys([UPSTREAM])
WORDS = st.sampled_from(
    ["", "1.0", "*", "strict", "skip", "ca:x", "x509.subject: C=US, ST=WA, O=x", "enforce", "e30",
     "e30=", "AAAA", cosign.DSSE_PAYLOAD, "application/vnd.dev.sigstore.bundle.v0.3+json"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | WORDS | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)
)


def shaped(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """Documents with some of *keys*, one inside another."""
    names = st.sampled_from(keys)
    return st.dictionaries(
        names, VALUES | st.dictionaries(names, VALUES | st.lists(VALUES), max_size=4), max_size=5
    )


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80) | VALUES.map(lambda v: json.dumps(v).encode()))
def test_payloads(raw: bytes) -> None:
    for check in (lambda: cosign.check_payload(raw, b"x", ROOT, KEYS),
                  lambda: cosign.check_bundle(raw, ROOT, KEYS)):  # fmt: skip
        try:
            check()
        except IgPyError:
            continue
        raise AssertionError("no key signed this")


@settings(max_examples=60, deadline=None)
@given(shaped("mediaType", "dsseEnvelope", "payload", "payloadType", "signatures", "sig"))
def test_bundles(document: dict[str, Any]) -> None:
    document.setdefault("mediaType", "application/vnd.dev.sigstore.bundle.v0.3+json")
    try:
        cosign.check_bundle(json.dumps(document).encode(), ROOT, KEYS)
    except IgPyError:
        return
    raise AssertionError("no key signed this")


@settings(max_examples=60, deadline=None)
@given(shaped("payload", "protected", "header", "signature", "x5c"))
def test_envelopes(document: dict[str, Any]) -> None:
    try:
        Envelope(json.dumps(document).encode())
    except IgPyError:
        return
    raise AssertionError("no key signed this")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        shaped("name", "registryScopes", "signatureVerification", "level", "override",
               "authenticity", "expiry", "trustStores", "trustedIdentities"),
        max_size=2,
    )
)  # fmt: skip
def test_policies(listed: list[dict[str, Any]]) -> None:
    with suppress(IgPyError):
        policies = trustpolicy.load(json.dumps({"version": "1.0", "trustPolicies": listed}))
        for policy in policies:
            assert policy.scopes and set(policy.actions) == set(trustpolicy.ASPECTS)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["PUBLIC KEY", "PRIVATE KEY", *privatekeys.LABELS]))
def test_keys(body: str, label: str) -> None:
    pem = f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"
    for load in (lambda: load_public_keys([pem]),
                 lambda: privatekeys.load_private_key(pem, lambda: "")):  # fmt: skip
        try:
            load()
        except IgPyError:
            continue
        raise AssertionError("that was no key")
