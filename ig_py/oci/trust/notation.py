"""Signatures of the Notary Project: a certificate chain, verified under a trust policy.

Rules: notaryproject/specifications, "trust-store-trust-policy". Time stamps (RFC 3161) are
ignored: a policy may name one trust store here, and it cannot be of type ``tsa``.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from ig_py.errors import IntegrityError, LimitError, VerificationError
from ig_py.oci.artifact import Descriptor
from ig_py.oci.trust import certificates, revocation, trustpolicy
from ig_py.oci.trust.envelope import COSE, JWS, STORES, Envelope
from ig_py.oci.trust.model import MAX_SIGNATURE, Signature, SignatureSource, Verdict


class Notation:
    """*trusted*: certificates (PEM texts or files) of the one trust store that the *policy*
    (JSON text or file) may name. *online*: check revocation with servers.

    Raises:
        UsageError: A certificate or the policy cannot be read or is not valid.
    """

    def __init__(self, trusted: Sequence[str], policy: str, *, online: bool = False) -> None:
        self._online = online
        self._trusted = certificates.load_trusted(trusted)
        self._policies = trustpolicy.load(policy)

    def verify(
        self, source: SignatureSource, signature: Signature, image: Descriptor, repository: str
    ) -> Verdict:
        """Check one signature manifest.

        Raises:
            VerificationError: No policy covers *repository*, or the signature does not hold
                under it.
            IgPyError: *source* cannot be read.
        """
        policy = trustpolicy.select(self._policies, repository)
        if policy.actions["integrity"] == trustpolicy.SKIP:
            return Verdict(f"nobody: trust policy {policy.name!r} skips verification", "notation")
        layers = signature.manifest.layers
        if len(layers) != 1:
            raise VerificationError("notation signature: does not have exactly one layer")
        kind = layers[0].media_type
        if kind not in (JWS, COSE):
            raise VerificationError(
                f"notation signature: an envelope of type {kind[:80]!r}, neither JWS nor COSE"
            )
        try:
            envelope = Envelope(source.read(layers[0], MAX_SIGNATURE), kind)
            self._check_target(envelope, image)
        except (IntegrityError, LimitError, ValueError) as err:
            raise VerificationError(f"notation signature: {err}") from err
        noted = []
        for aspect, reason in self._doubts(envelope, policy):
            text = f"notation signature: {aspect}: {reason} (trust policy {policy.name!r})"
            if policy.actions[aspect] == trustpolicy.ENFORCE:
                raise VerificationError(text)
            if policy.actions[aspect] == trustpolicy.LOG:
                noted.append(text)
        signer = envelope.chain[0].subject.rfc4514_string()[:200]
        return Verdict(signer, "notation", tuple(noted))

    def _check_target(self, envelope: Envelope, image: Descriptor) -> None:
        target = envelope.payload.get("targetArtifact")
        fields = target if isinstance(target, dict) else {}
        named = (fields.get("digest"), fields.get("size"), fields.get("mediaType"))
        if named != (image.digest, image.size, image.media_type):
            raise VerificationError(
                "notation signature: payload digest does not correspond to image: "
                f"expected {image.digest}, got {str(named[0])[:100]}"
            )

    def _doubts(self, envelope: Envelope, policy: trustpolicy.Policy) -> Iterator[tuple[str, str]]:
        """(aspect, reason) of each failed check, the cheapest check first."""
        now = datetime.datetime.now(datetime.UTC)
        store = STORES[envelope.scheme]
        anchors = self._trusted if policy.store_type == store else []
        trusted = any(anchor == one for anchor in anchors for one in envelope.chain)
        if not trusted:
            reason = "the certificate chain leads to no trusted certificate"
            yield "authenticity", reason
        elif not policy.trusts(certificates.subject(envelope.chain[0])):
            signer = envelope.chain[0].subject.rfc4514_string()[:200]
            yield "authenticity", f"{signer!r} is not a trusted identity"
        authentic = envelope.authentic_time or now
        if reason := certificates.valid_at(envelope.chain, authentic):
            yield "authenticTimestamp", reason
        if envelope.expiry is not None and now > envelope.expiry:
            yield "expiry", f"the signature expired on {envelope.expiry}"
        asks = policy.actions["revocation"] != trustpolicy.SKIP
        if asks and (reason := self._revoked(envelope, now, trusted=trusted)):
            yield "revocation", reason

    def _revoked(self, envelope: Envelope, now: datetime.datetime, *, trusted: bool) -> str:
        """Why revocation is in doubt. Servers named by untrusted certificates are not asked."""
        if not any(revocation.revocable(certificate) for certificate in envelope.chain[:-1]):
            return ""
        if trusted and self._online:
            return revocation.check(envelope.chain, now)
        reason = "pulling is not allowed" if trusted else "the certificates are not trusted"
        return (
            f"the certificates' revocation was not checked: {reason}; "
            'a policy can have "override": {"revocation": "skip"}'
        )
