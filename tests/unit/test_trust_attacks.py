"""The attacks that clients of registries have suffered, and the tests that stand for each.

Rows are the classes of published vulnerabilities; the tests named must exist.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from support.images import image
from support.registry_cases import QUICK, make_quick
from support.registry_server import FaultyRegistry, make_certificate, serving

from ig_py.errors import RegistryDenied
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull

TESTS = Path(__file__).parents[1]

ROWS = {
    "credentials to another host by an upload's Location (CVE-2026-50151)": [
        "unit/test_trust_hostile.py::test_uploads_elsewhere",
        "unit/test_oci_registry_login.py::test_uploads_elsewhere_carry_no_credentials",
        "unit/test_oci_transfer.py::test_chunks_elsewhere",
    ],
    "credentials across redirects (GHSA-vh4v-2xq2-g5cg, CVE-2020-15157, CVE-2024-3727)": [
        "unit/test_trust_hostile.py::test_redirects",
        "unit/test_trust_hostile.py::test_redirect_loops",
        "unit/test_oci_registry_login.py::test_redirects_to_another_host_carry_no_credentials",
        "unit/test_oci_registry_login.py::test_another_port_is_another_origin",
        "unit/test_oci_registry_login.py::test_from_tls_to_plain_http",
        "unit/test_oci_registry.py::test_redirected_uploads_are_refused",
    ],
    "token realm on another host (CVE-2026-48978)": [
        "unit/test_trust_hostile.py::test_realms",
        "unit/test_oci_registry_login.py::test_a_hijacked_realm_sees_nothing",
        "unit/test_trust_login.py::test_a_hijacked_realm_sees_nothing",
        "unit/test_trust_attacks.py::test_refresh_tokens_stay_at_home",
    ],
    "TLS switched off for the token service (CVE-2019-10214)": [
        "unit/test_trust_hostile.py::test_plain_http_registries_see_no_credentials",
        "unit/test_oci_registry.py::test_plain_http_never_sees_credentials",
        "unit/test_oci_registry.py::test_redirects_of_plain_http_stay_at_home",
        "unit/test_oci_registry.py::test_the_list_of_insecure_registries_is_exact",
    ],
    "next pages elsewhere (GHSA-h7vf-4x9w-h99v)": [
        "unit/test_trust_hostile.py::test_next_pages_elsewhere",
    ],
    "endless pages and signatures (GHSA-298f-872v-2rcx, CVE-2023-46737, CVE-2023-33957)": [
        "unit/test_trust_hostile.py::test_endless_pages",
        "unit/test_trust_hostile.py::test_endless_signatures",
        "unit/test_trust_verify.py::test_too_many_signatures",
    ],
    "huge documents, blobs and attachments (CVE-2023-25153, CVE-2024-29902, CVE-2023-25656)": [
        "unit/test_trust_hostile.py::test_big_documents",
        "unit/test_trust_hostile.py::test_huge_signatures",
        "unit/test_oci_registry.py::test_a_huge_manifest",
        "unit/test_oci_registry.py::test_hostile_indexes",
        "unit/test_oci_resolve.py::test_absurd_layer_sizes_are_refused_before_reading",
    ],
    "content that does not have its digest": [
        "unit/test_trust_hostile.py::test_changed_content",
        "unit/test_trust_hostile.py::test_truncated_content",
        "unit/test_oci_registry.py::test_wrong_content",
        "unit/test_oci_transfer.py::test_other_content_after_a_break",
        "unit/test_oci_store.py::test_damaged_blobs_are_noticed_on_read",
    ],
    "a digest used as a path (CVE-2024-3727)": [
        "unit/test_trust_hostile.py::test_digests_as_paths",
        "unit/test_oci_document.py::test_digests_refused",
    ],
    "ambiguous documents (GHSA-5j5w-g665-5m35, CVE-2021-41190)": [
        "unit/test_trust_hostile.py::test_ambiguous_documents",
        "unit/test_trust_hostile.py::test_odd_documents",
        "unit/test_oci_registry.py::test_wrong_content_types",
        "unit/test_oci_registry.py::test_a_manifest_sent_as_another_type",
    ],
    "archives that write elsewhere (CVE-2026-50162, CVE-2026-50163, CVE-2021-32760)": [
        "unit/test_oci_archive.py::test_hostile_members_are_refused",
        "unit/test_oci_archive.py::test_duplicates_are_refused",
        "unit/test_oci_fuzz.py::test_targets",
    ],
    "compression bombs": [
        "unit/test_trust_hostile.py::test_compressed_content",
        "unit/test_oci_registry.py::test_a_compressed_answer_is_not_unpacked",
        "unit/test_oci_archive.py::test_invalid_archives_are_refused",
    ],
    "signatures of something else (CVE-2022-35929, CVE-2023-33959, CVE-2026-39395)": [
        "unit/test_trust_verify.py::test_a_signature_of_another_image",
        "unit/test_trust_verify.py::test_an_attestation_is_no_signature",
        "unit/test_trust_verify.py::test_the_verified_content_is_loaded",
        "unit/test_trust_verify.py::test_broken_payloads_that_are_signed",
        "unit/test_trust_verify.py::test_the_verdict_names_the_key",
        "wire/test_trust_wire.py::test_for_another_image",
    ],
    "rollback (CVE-2024-23332): a digest can be pinned": [
        "unit/test_oci_resolve.py::test_allowed",
        "unit/test_oci_registry.py::test_another_document_for_a_digest",
    ],
    "JSON nested too deeply, keys twice": [
        "unit/test_trust_hostile.py::test_odd_documents",
        "unit/test_oci_document.py::test_json_refused",
    ],
    "YAML bombs (CVE-2019-11254, CVE-2021-4235)": [
        "unit/test_schema_yamlsafe.py::test_refused",
        "unit/test_schema_yamlsafe.py::test_limits",
    ],
    "slow bodies": [
        "unit/test_trust_hostile.py::test_slow_content",
        "unit/test_oci_registry.py::test_slow_registries",
    ],
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_tests(row: str) -> None:
    for test in ROWS[row]:
        path, _, name = test.partition("::")
        tree = ast.parse((TESTS / path).read_text())
        assert name in {f.name for f in tree.body if isinstance(f, ast.FunctionDef)}, test


def test_refresh_tokens_stay_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity token is worth more than a password: it goes to no other host either."""
    make_quick(monkeypatch)
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with (
        serving(FaultyRegistry(login=("u", "p")), tls=certificate, host="localhost") as registry,
        serving(FaultyRegistry(), tls=certificate) as thief,
    ):
        registry.put("te", "1", image("a"))
        known = {"auths": {registry.host: {"identitytoken": "refresh-me"}}}
        (tmp_path / "auth.json").write_text(json.dumps(known))
        options = RegistryOptions(str(tmp_path / "auth.json"), timeouts=QUICK)
        reference, store = normalize(f"{registry.host}/te:1"), Store.open(tmp_path / "store")
        # At the registry itself the credentials are used to ask for the token.
        with pytest.raises(RegistryDenied):
            pull(reference, store, options)
        (asked,) = registry.seen("POST /token")
        assert b"refresh_token=refresh-me" in asked.body
        registry.requests.clear()
        registry.realm = f"{thief.base}/token"
        with pytest.raises(RegistryDenied, match="no credentials were sent"):
            pull(reference, store, options)
        assert thief.requests == []
        assert not any(b"refresh-me" in r.body for r in registry.requests)
