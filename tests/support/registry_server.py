"""The in-memory registry under the names that these tests use, and a certificate for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ig_py.testing.registry import Fault, Reply, Request, serving
from ig_py.testing.registry import Registry as FaultyRegistry

__all__ = ["Fault", "FaultyRegistry", "Reply", "Request", "make_certificate", "serving"]


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for the loopback names, made by openssl: (certificate, key)."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key),
         "-out", str(certificate), "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return certificate, key
