"""The core's probes and the tests' gates look at different things and must agree."""

import pytest
from support import features

from ig_py import _core

pytestmark = pytest.mark.needs("root", "bpf")


@pytest.mark.parametrize("name", ["kprobe", "uprobe", "tracepoint", "btf", "ringbuf"])
def test_feature_probe_agrees_with_the_gate(name: str) -> None:
    assert _core.probe(name) == (features.missing(name) is None)


def test_an_unknown_feature_is_an_error_and_not_false() -> None:
    with pytest.raises(_core.CoreError) as caught:
        _core.probe("telepathy")
    assert caught.value.kind == "unsupported"
