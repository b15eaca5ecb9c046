"""The container as data: ids, bounds on what runtimes tell, JSON and event values."""

from __future__ import annotations

import json

import pytest

from ig_py.containers import model
from ig_py.containers.engines import docker_parse
from ig_py.containers.model import Container, KubernetesInfo, RuntimeInfo

ID = "46468c4fb7aab4f6b4b1308e13c0aba2f0942fef8d4b1c0c3c928b4ca73c73be"


@pytest.mark.parametrize("good", [ID, "plain1", "a.b_c+d-e", "..."])
def test_ids_that_can_be_file_names(good: str) -> None:
    assert model.valid_id(good)


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a b", "a\n", "é", "x" * 129, None, 7])
def test_ids_that_cannot(bad: object) -> None:
    assert not model.valid_id(bad)


def test_json_leaves_out_empty_fields() -> None:
    assert Container().to_json() == {"runtime": {}, "k8s": {}}
    container = Container(
        runtime=RuntimeInfo(name="docker", container_id=ID, pid=7, started_at=5),
        k8s=KubernetesInfo(pod_labels={"a": "b"}, pod_uid="u"),
        mntns=1,
        host_network=True,
    )
    assert container.to_json() == {
        "runtime": {
            "runtimeName": "docker",
            "containerId": ID,
            "containerPid": 7,
            "containerStartedAt": 5,
        },
        "k8s": {"podLabels": {"a": "b"}, "podUID": "u"},
        "mntns": 1,
        "hostNetwork": True,
    }


def test_event_values_have_every_field_but_the_node() -> None:
    values = Container(k8s=KubernetesInfo(pod_labels={"a": "1", "b": "2"})).event_values()
    assert values.pop("k8s.podLabels") == "a=1,b=2"
    assert {name: value for name, value in values.items() if value} == {}
    assert type(values["runtime.containerPid"]) is int
    assert type(values["k8s.hostnetwork"]) is bool


def test_text_and_labels_are_bounded_and_valid() -> None:
    assert model.text("x" * 5000) == "x" * model.MAX_NAME
    assert model.text("a\ud800b") == "a?b"
    assert model.text(["no"]) == ""
    assert model.text("\x1b[31m") == "\x1b[31m"
    many = {f"k{i}": "v" for i in range(1000)} | {"n": 1}
    assert len(model.labels(many)) == model.MAX_LABELS
    assert model.labels({"k" * 9999: "v" * 9999, 1: "x", "y": None}) == {
        "k" * model.MAX_LABEL_KEY: "v" * model.MAX_LABEL_VALUE
    }
    assert model.labels(["a"]) == {}


def test_docker_list_entry() -> None:
    container = docker_parse.from_list(
        {
            "Id": ID,
            "Names": ["/c1"],
            "Image": "bb:latest@sha256:00",
            "ImageID": "sha256:57df",
            "Labels": {"io.kubernetes.pod.name": "p", "io.kubernetes.pod.namespace": "n"},
            "HostConfig": {"NetworkMode": "host"},
        }
    )
    assert container is not None
    assert container.runtime == RuntimeInfo(
        name="docker",
        container_id=ID,
        container_name="c1",
        image_name="bb:latest",
        image_id="sha256:57df",
    )
    assert (container.k8s.pod_name, container.k8s.namespace) == ("p", "n")
    assert container.host_network


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        "x",
        {},
        {"Id": 5},
        {"Id": "../../etc"},
    ],
)
def test_docker_nonsense_is_no_container(entry: object) -> None:
    assert docker_parse.from_list(entry) is None
    assert docker_parse.from_inspect(entry) is None


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["/db"], "db"),
        (["/web/db", "/db"], "db"),
        (["/web/db"], "web/db"),
        ([7, "/db"], "db"),
        ([], ""),
        ("db", ""),
    ],
)
def test_docker_link_aliases_are_no_names(names: object, name: str) -> None:
    found = docker_parse.from_list({"Id": ID, "Names": names})
    assert found is not None and found.runtime.container_name == name


def test_a_pod_sandbox_is_left_out() -> None:
    labels = {"io.kubernetes.docker.type": "podsandbox"}
    assert docker_parse.from_list({"Id": ID, "Labels": labels}) is None
    assert docker_parse.from_inspect({"Id": ID, "Config": {"Labels": labels}}) is None


@pytest.mark.parametrize(
    "odd", [None, 3, [], {}, {"State": None}, {"State": {"Pid": "7"}}, {"State": {"Pid": -1}}]
)
def test_docker_without_a_pid(odd: object) -> None:
    assert docker_parse.pid_of(odd) == 0


def test_docker_survives_any_shape() -> None:
    shapes = [None, 1, "s", [], {}, [None], {"a": 1}, True]
    for names in shapes:
        for labels in shapes:
            entry = {"Id": ID, "Names": names, "Labels": labels, "HostConfig": names, "Image": 3}
            found = docker_parse.from_list(entry)
            assert found is not None and found.id == ID
            json.dumps(found.to_json())
            assert docker_parse.from_event({"Actor": labels, "id": ID}) is not None
            assert docker_parse.image_digest(labels) == ""
