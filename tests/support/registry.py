"""Debian's docker-registry on a loopback port."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path

from support.processes import free_port, running


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def docker_registry(directory: Path) -> Iterator[str]:
    """A registry without TLS and login, its blobs below *directory*; yields ``host:port``."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "blobs")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    # JSON is YAML.
    (directory / "config.yml").write_text(json.dumps(settings))
    argv = ["docker-registry", "serve", str(directory / "config.yml")]
    with running(argv, directory / "registry.log", lambda: _answers(port)):
        yield f"127.0.0.1:{port}"
