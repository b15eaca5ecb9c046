"""Pods, made through CRI with an encoder of its own: independent of the client under test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import grpc

from support.image_archive import NAME
from support.waiting import deadline

_SERVICE = "/runtime.v1.RuntimeService/"
_NODE = 2
"""NamespaceMode: the host's namespace."""

Value: TypeAlias = "int | str | Mapping[int, Value] | Sequence[str | Mapping[int, Value]]"
"""Of a field: a number, a text, a message, or several of these two."""
Fields: TypeAlias = Mapping[int, Value]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def encode(fields: Fields) -> bytes:
    """A message: field number → value."""
    out = b""
    for number, value in fields.items():
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        elif isinstance(value, (str, Mapping)):
            out += _delimited(number, value)
        else:
            out += b"".join(_delimited(number, item) for item in value)
    return out


def _delimited(number: int, value: str | Fields) -> bytes:
    raw = value.encode() if isinstance(value, str) else encode(value)
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def text_of(message: bytes) -> str:
    """The first field of a message, when that is a short text."""
    return message[2 : 2 + message[1]].decode() if message else ""


class Cri:
    """Makes pods without a network of their own on a CRI socket."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}")

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, fields: Fields, seconds: float = 60) -> bytes:
        call: Callable[..., bytes] = self._channel.unary_unary(_SERVICE + method)
        return bytes(call(encode(fields), timeout=deadline(seconds)))

    def pod(self, name: str, labels: Mapping[str, str]) -> tuple[str, Fields]:
        """Run a pod; its id and its configuration."""
        uid = f"uid-{name}"
        own = {"pod.name": name, "pod.namespace": "shop", "pod.uid": uid}
        config: Fields = {
            1: {1: name, 2: uid, 3: "shop"},
            6: _map({**labels, **{f"io.kubernetes.{k}": v for k, v in own.items()}}),
            8: {2: {1: {1: _NODE, 2: 1, 3: _NODE}}},
        }
        return text_of(self.call("RunPodSandbox", {1: config})), config

    def container(self, pod: tuple[str, Fields], name: str, *command: str) -> str:
        """Create a container in *pod*; its id."""
        config: Fields = {
            1: {1: name},
            2: {1: NAME},
            3: list(command),
            9: [
                *_pod_labels(pod[1]),
                {1: "io.kubernetes.container.name", 2: name},
            ],
            15: {4: {3: {1: _NODE, 2: 1, 3: _NODE}}},
        }
        return text_of(self.call("CreateContainer", {1: pod[0], 2: config, 3: pod[1]}))

    def start(self, container_id: str) -> None:
        self.call("StartContainer", {1: container_id})

    def remove(self, pod: tuple[str, Fields]) -> None:
        self.call("StopPodSandbox", {1: pod[0]})
        self.call("RemovePodSandbox", {1: pod[0]})


def _map(values: Mapping[str, str]) -> list[Fields]:
    return [{1: key, 2: value} for key, value in values.items()]


def _pod_labels(config: Fields) -> list[Fields]:
    labels = config[6]
    assert isinstance(labels, list)
    return [label for label in labels if str(label[1]).startswith("io.kubernetes.")]
