"""What the tests of registries share."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ig_py.oci import transport
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull
from ig_py.oci.transport import Timeouts
from support.images import blob_files
from support.registry_server import FaultyRegistry

QUICK = Timeouts(connect=10, read=10, request=20, rate=1 << 20)
"""For registries that answer: nothing waits for these to pass."""

IMPATIENT = Timeouts(connect=2, read=0.2, request=0.4, rate=1 << 20)
"""For registries that are slow on purpose."""


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts, and nothing from the environment."""
    monkeypatch.setattr(transport, "RETRY_DELAYS_S", (0.01, 0.01))
    for variable in ("REGISTRY_AUTH_FILE", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)


def options(registry: FaultyRegistry) -> RegistryOptions:
    return RegistryOptions(insecure_registries=(registry.host,), timeouts=QUICK)


def do_pull(registry: FaultyRegistry, store: Store, tag: str = ":1") -> Any:
    return pull(normalize(f"{registry.host}/te{tag}"), store, options(registry))


def assert_clean(store: Store) -> None:
    """A failed pull leaves nothing."""
    assert store.images() == []
    if store.root.exists():
        assert blob_files(store) == set()
        assert list((store.root / "ingest").iterdir()) == []


def auth_file(folder: Path, host: str, user: str = "u", password: str = "p") -> str:
    path = folder / "auth.json"
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return str(path)


def with_login(registry: FaultyRegistry, folder: Path, **kwargs: Any) -> RegistryOptions:
    return RegistryOptions(auth_file(folder, registry.host, **kwargs), timeouts=QUICK)
