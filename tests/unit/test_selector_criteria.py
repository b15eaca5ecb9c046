"""Container selection: docs/reference/operators.md#selecting-containers."""

from __future__ import annotations

import pytest

from ig_py.containers.model import Container, KubernetesInfo, RuntimeInfo
from ig_py.containers.selector import Criterion, Selector, image_prefix, parse_labels
from ig_py.errors import UsageError

DIGEST = "sha256:ed5fc267dcd0c529d89396b000112233445566778899aabbccddeeff00112233"


def named(name: str, **labels: str) -> Container:
    return Container(
        runtime=RuntimeInfo(
            name="docker",
            container_id="c" * 64,
            container_name=name,
            image_digest=DIGEST,
            image_id="sha256:57dfdd689fe8ae11",
        ),
        k8s=KubernetesInfo(
            namespace="default", pod_name="pod-one", container_name="main", pod_labels=labels
        ),
    )


@pytest.mark.parametrize(
    ("criterion", "value", "expected"),
    [
        ("", "anything", True),
        ("", "", True),
        ("a", "a", True),
        ("a", "A", False),
        ("a", "ab", False),
        ("a*", "ab", False),
        ("a,b", "b", True),
        ("a,b", "c", False),
        ("!a", "a", False),
        ("!a", "b", True),
        ("!a", "", True),
        ("!a,!b", "b", False),
        ("a,!b", "a", True),
        ("a,!b", "b", False),
        ("a,!b", "c", False),
        ("a,!a", "a", False),
        (",a,", "a", True),
        ("!", "", False),
        ("!", "x", True),
    ],
)
def test_comma_lists_and_negation(criterion: str, value: str, expected: bool) -> None:
    assert Criterion.parse(criterion).matches(value) is expected


def test_image_ids_and_digests_match_by_twelve_digits() -> None:
    assert image_prefix(DIGEST) == "ed5fc267dcd0"
    for given in (DIGEST, "ed5fc267dcd0", "sha256:ed5fc267dcd0c529d89396b", f"x,{DIGEST}"):
        assert Selector.parse(image_digest=given).matches(named("c1"))
    for given in ("ed5fc267dcd", f"!{DIGEST}", "sha256:57dfdd689fe8"):
        assert not Selector.parse(image_digest=given).matches(named("c1"))
    assert Selector.parse(image_id="57dfdd689fe8").matches(named("c1"))


def test_all_criteria_must_hold() -> None:
    container = named("c1")
    assert Selector().matches(container)
    assert Selector.parse(container_name="c1", namespace="default", pod_name="pod-one").matches(
        container
    )
    assert not Selector.parse(container_name="c1", namespace="other").matches(container)
    assert not Selector.parse(container_name="c1", k8s_container_name="!main").matches(container)
    assert not Selector.parse(runtime_name="podman").matches(container)


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ("app=web", {"app": "web"}, True),
        ("app=web", {}, False),
        ("app=web", {"app": "db"}, False),
        ("app=!web", {"app": "db"}, True),
        ("app=!web", {"app": "web"}, False),
        ("app=!web", {}, False),
        ("!app=web", {"app": "web"}, False),
        ("!app=web", {"app": "db"}, True),
        ("!app=web", {}, True),
        ("app=web,tier=front", {"app": "web", "tier": "front"}, True),
        ("app=web,tier=front", {"app": "web"}, False),
        ("app=", {"app": "anything"}, True),
    ],
)
def test_labels(selector: str, labels: dict[str, str], expected: bool) -> None:
    assert Selector.parse(labels=selector).matches(named("c1", **labels)) is expected


@pytest.mark.parametrize("given", ["app", "app=a=b", "app=web,", ",", "a=b,c"])
def test_a_malformed_label_selector_is_named(given: str) -> None:
    with pytest.raises(UsageError, match="key=value"):
        parse_labels(given)
