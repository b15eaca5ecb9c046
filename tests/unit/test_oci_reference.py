"""References: one case a rule of the normalisation table."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig_py.errors import InvalidReference
from ig_py.oci.reference import normalize, parse_stored

GADGET = "ghcr.io/inspektor-gadget/gadget"
HEX = "0123456789abcdef" * 4

VALID = {
    "x": f"{GADGET}/x:latest",
    "x:1": f"{GADGET}/x:1",
    "ghcr.io/x": f"{GADGET}/x:latest",
    "ghcr.io": f"{GADGET}/ghcr.io:latest",
    "a/b": "ghcr.io/a/b:latest",
    "ghcr.io/a/b": "ghcr.io/a/b:latest",
    "inspektor-gadget/gadget/x": f"{GADGET}/x:latest",
    "a.b/c": "a.b/c:latest",
    "a:5000/x": "a:5000/x:latest",
    "localhost/x": "localhost/x:latest",
    "localhost:5000/x": "localhost:5000/x:latest",
    "[::1]:5000/x": "[::1]:5000/x:latest",
    "docker.io/a/b": "docker.io/a/b:latest",
    "docker.io/x": "docker.io/library/x:latest",
    "index.docker.io/x": "docker.io/library/x:latest",
    "Docker.io/x": "Docker.io/x:latest",
    "LOCAL/x": "LOCAL/x:latest",
    "MyHost/b:1": "MyHost/b:1",
    HEX: f"{GADGET}/{HEX}:latest",
    f"x:1@sha256:{HEX}": f"{GADGET}/x:1@sha256:{HEX}",
    f"x@sha256:{HEX}": f"{GADGET}/x@sha256:{HEX}",
    "exp1.tar": f"{GADGET}/exp1.tar:latest",
    "a__b--c.d": f"{GADGET}/a__b--c.d:latest",
    "x:_T.a-g": f"{GADGET}/x:_T.a-g",
    "x:" + "t" * 128: f"{GADGET}/x:" + "t" * 128,
}

INVALID = [
    "", "/", "x/", "/x", "a//b", "x:", "x:-t", "x:.t", "a..b", "a___b", "x@sha256:abc",
    "x:" + "t" * 129, "a b", " x", "x ", "./p", "../p", "oci:/p", "file:///p", "docker://x",
    "x\n", "x\x00", "é", "-x", "x-", f"x@sha256:{HEX.upper()}", f"x@md5:{HEX[:32]}",
    "x:1:2", "[::1/x", "a_.b/c", "-a.b/c", "a.b-/c", "a.b:/c", "a.b:port/c", "x" * 5000,
    "٣",
]  # fmt: skip


@pytest.mark.parametrize("text", VALID)
def test_normalised(text: str) -> None:
    ref = normalize(text)
    assert str(ref) == VALID[text]
    assert normalize(str(ref)) == ref
    assert parse_stored(str(ref)) == ref


@pytest.mark.parametrize("text", INVALID)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        normalize(text)
    if len(text) < 1000:
        assert caught.value.message.startswith(
            f'parsing normalized image "{text}": invalid reference format'
        )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x/Y", "x/Y"),
        ("UPPER:1", "inspektor-gadget/gadget/UPPER"),
        ("UPPER CASE:foo", "inspektor-gadget/gadget/UPPER CASE"),
    ],
)
def test_upper_case_is_told(text: str, named: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        normalize(text)
    assert str(caught.value) == (
        f'parsing normalized image "{text}": invalid reference format: '
        f"repository name ({named}) must be lowercase"
    )


def test_long_repository_names() -> None:
    assert len(normalize("a.b/" + "c" * 251).repository) == 255
    with pytest.raises(InvalidReference, match="255"):
        normalize("a.b/" + "c" * 252)


def test_only_the_default_prefix_is_shortened() -> None:
    assert normalize("x:1").short_repository() == "x"
    assert normalize("a/b").short_repository() == "ghcr.io/a/b"
    assert normalize("localhost/x").short_repository() == "localhost/x"


def test_success_messages() -> None:
    assert normalize("x:1").with_digest("sha256:ab") == f"{GADGET}/x:1@sha256:ab"
    assert normalize(f"x@sha256:{HEX}").with_digest("sha256:ab") == f"{GADGET}/x:@sha256:ab"


@pytest.mark.parametrize("name", ["", "sha256-ab.sig", "x:1", "ghcr.io/a/b", "a/B:1"])
def test_stored_names_that_are_no_references(name: str) -> None:
    assert parse_stored(name) is None


@given(st.text(alphabet=string.ascii_letters + string.digits + "./:@-_[] \n", max_size=40))
def test_normalising_is_idempotent_or_refused(text: str) -> None:
    try:
        ref = normalize(text)
    except InvalidReference:
        return
    assert normalize(str(ref)) == ref
    assert ref.tag or ref.digest
