"""Signatures of the Notary Project: a certificate chain, judged by a trust policy.

Rules: notaryproject/specifications, "trust-store-trust-policy". Revocation lists and time stamp
authorities are not asked: a policy that insists on them (level ``strict`` and a certificate that
names a list) fails.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from ig_py.errors import IntegrityError, LimitError, VerificationError
from ig_py.oci.artifact import Descriptor
from ig_py.oci.trust import certificates, trustpolicy
from ig_py.oci.trust.envelope import COSE, JWS, STORES, Envelope
from ig_py.oci.trust.model import MAX_SIGNATURE, Signature, SignatureSource, Verdict


class Notation:
    """*trusted*: certificates (PEM texts or files), the content of the one trust store that
    the *policy* (JSON text or file) may name. Raises :class:`UsageError`.
    """

    def __init__(self, trusted: Sequence[str], policy: str) -> None:
        self._trusted = certificates.load_trusted(trusted)
        self._policies = trustpolicy.load(policy)

    def verify(
        self, source: SignatureSource, signature: Signature, image: Descriptor, repository: str
    ) -> Verdict:
        """Check one signature manifest. Raises :class:`VerificationError`."""
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

    def _doubts(self, envelope: Envelope, policy: trustpolicy.Policy) -> list[tuple[str, str]]:
        """(aspect, reason) of what is not as it should be."""
        now = datetime.datetime.now(datetime.UTC)
        doubts = []
        store = STORES[envelope.scheme]
        anchors = self._trusted if policy.store_type == store else []
        if not any(anchor == one for anchor in anchors for one in envelope.chain):
            reason = "the certificate chain leads to no trusted certificate"
            doubts.append(("authenticity", reason))
        elif not policy.trusts(certificates.subject(envelope.chain[0])):
            signer = envelope.chain[0].subject.rfc4514_string()[:200]
            doubts.append(("authenticity", f"{signer!r} is none of the trusted identities"))
        authentic = envelope.authentic_time or now
        if reason := certificates.valid_at(envelope.chain, authentic):
            doubts.append(("authenticTimestamp", reason))
        if envelope.expiry is not None and now > envelope.expiry:
            doubts.append(("expiry", f"the signature expired on {envelope.expiry}"))
        if certificates.revocable(envelope.chain):
            reason = (
                "a certificate says where to ask whether it is revoked, and nobody is asked; "
                'a policy can have "override": {"revocation": "skip"}'
            )
            doubts.append(("revocation", reason))
        return doubts
