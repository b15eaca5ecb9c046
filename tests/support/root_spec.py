"""The root gadget, compiled here and read: its object and its spec."""

from __future__ import annotations

import functools
from pathlib import Path

from ig_py.gadget.load import ebpf_object, load_gadget
from ig_py.gadget.spec import GadgetSpec
from ig_py.oci.artifact import Artifact
from ig_py.oci.options import ResolveOptions
from ig_py.resolver import resolve

CHECKOUT = Path(__file__).resolve().parents[2]


@functools.cache
def artifact() -> Artifact:
    """Compiled once a test run, for this machine's architecture."""
    return resolve(str(CHECKOUT), ResolveOptions(pull="never"))


def object_bytes() -> bytes:
    found = ebpf_object(artifact())
    assert found is not None
    return found


def spec() -> GadgetSpec:
    """A fresh spec, without operators."""
    return load_gadget(artifact())
