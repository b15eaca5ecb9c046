"""Verifies an image's signatures: one must be valid."""

from __future__ import annotations

from ig_py.errors import IgPyError, VerificationError
from ig_py.oci.artifact import Descriptor
from ig_py.oci.trust import cosign
from ig_py.oci.trust.find import find
from ig_py.oci.trust.keys import load_public_keys
from ig_py.oci.trust.model import (
    NOTATION_ARTIFACT,
    NoSignature,
    SignatureSource,
    Trust,
    Verdict,
)


class Verifier:
    """Keys, certificates and policy of a :class:`Trust`, read once.

    Raises:
        UsageError: One of them cannot be read or is not valid.
        VerificationError: There is nothing to verify with.
    """

    def __init__(self, trust: Trust) -> None:
        self._keys = load_public_keys(trust.public_keys)
        self._notation = None
        if trust.certificates and trust.policy:
            from ig_py.oci.trust.notation import Notation

            self._notation = Notation(trust.certificates, trust.policy, online=trust.online)
        if not self._keys and self._notation is None:
            raise VerificationError("no verification method available", remedy=_WAYS)

    def verify(self, source: SignatureSource, image: Descriptor, repository: str) -> Verdict:
        """Find a valid signature of *image*, the descriptor that will be loaded.

        *repository* selects the trust policy.

        Raises:
            NoSignature: There is none of a kind for which keys or certificates are given.
            VerificationError: None is valid, or they cannot be read.
        """
        try:
            found, wrong = find(source, image)
        except VerificationError:
            raise
        except IgPyError as err:
            raise VerificationError(f"looking for signatures: {err}") from err
        tried = False
        for signature in found:
            is_notation = signature.kind == NOTATION_ARTIFACT
            if (self._notation is None) if is_notation else not self._keys:
                continue
            tried = True
            try:
                if is_notation and self._notation is not None:
                    return self._notation.verify(source, signature, image, repository)
                return cosign.verify(source, signature, image, self._keys)
            except IgPyError as err:
                wrong.append(str(err))
        if not tried and not wrong:
            kinds = {signature.kind for signature in found}
            raise NoSignature(_none(kinds, bool(self._keys)), remedy=_WAYS)
        raise VerificationError("; ".join(dict.fromkeys(wrong)), remedy=_WAYS)


_WAYS = (
    "name the signer's key with --public-keys, "
    "or use the image unverified with --verify-image=false"
)


def _none(kinds: set[str], have_keys: bool) -> str:
    if kinds == {NOTATION_ARTIFACT}:
        return "signed with notation only, and no certificates and trust policy for it are given"
    if kinds and not have_keys:
        return "signed with cosign only, and no public keys are given"
    return "signature not found"
