"""Container selection: docs/reference/operators.md#selecting-containers."""

from __future__ import annotations

import pytest

from ig_py.containers.model import Container, KubernetesInfo, RuntimeInfo
from ig_py.containers.selection_notice import nothing_selected
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
        ("a*", "ab", True),
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


def with_id(name: str, container_id: str) -> Container:
    return Container(runtime=RuntimeInfo("docker", container_id, name))


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("web-*", True),
        ("w?b-1", True),
        ("web-[0-9]", True),
        ("WEB-*", False),
        ("web", False),
        ("!web-*", False),
        ("!db-*", True),
        ("w*,!*-1", False),
        ("0123456789ab", True),
        ("01234567", True),
        ("0123456", False),
        ("!0123456789ab", False),
        ("!fedcba987654", True),
        ("123456789ab", False),
        ("0123456789ab*", False),
    ],
)
def test_patterns_and_beginnings_of_ids(criterion: str, expected: bool) -> None:
    container = with_id("web-1", "0123456789abcdef" * 4)
    assert Selector.parse(container_name=criterion).matches(container) is expected


@pytest.mark.parametrize(
    "flag",
    ["namespace", "pod_name", "k8s_container_name", "image_id", "image_digest", "runtime_name"],
)
def test_patterns_of_the_other_flags(flag: str) -> None:
    container = Container(
        runtime=RuntimeInfo("abc", image_id="sha256:abcd", image_digest="sha256:abcd"),
        k8s=KubernetesInfo(namespace="abc", pod_name="abc", container_name="abc"),
    )
    assert Selector.parse(**{flag: "a*"}).matches(container)
    assert not Selector.parse(**{flag: "b*"}).matches(container)
    assert not Selector.parse(**{flag: "!a*"}).matches(container)


def test_a_pattern_in_a_label() -> None:
    assert Selector.parse(labels="app=we*").matches(named("x", app="web"))
    assert not Selector.parse(labels="app=!we*").matches(named("x", app="web"))


def test_what_is_said_when_nothing_is_selected() -> None:
    running = [with_id(f"c{n:02}", f"{n:064x}") for n in range(12)] + [with_id("a\x1b[2J", "f")]
    selector = Selector.parse(container_name="nosuch", namespace="x" * 100)
    said = nothing_selected(selector, running)
    assert said is not None
    assert said.startswith(
        f"no container that runs now is selected by --containername 'nosuch' and"
        f" --k8s-namespace '{'x' * 61}...'; running: 'a\\x1b[2J', 'c00', 'c01',"
    )
    assert said.endswith("'c08' and 3 more")
    assert nothing_selected(Selector.parse(container_name="c01"), running) is None
    assert nothing_selected(Selector(), running) is None
    assert nothing_selected(Selector.parse(container_name="c01,c0*,!nosuch"), running) is None
    some = nothing_selected(Selector.parse(container_name="c01,c1 ,x-*,!c02,c1 "), running)
    assert some is not None
    assert some.startswith(
        "no container that runs now is selected by --containername 'c1 ' or --containername 'x-*'; "
        "running: "
    )
    both = nothing_selected(
        Selector.parse(container_name="c01", runtime_name="docker,cri"), running
    )
    assert both is not None and "by --runtime 'cri'; running" in both
    empty = nothing_selected(Selector.parse(container_name="!a"), [])
    assert empty is not None
    assert empty.endswith("running: none")
