"""Which containers a user asked for (docs/reference/operators.md#selecting-containers).

All criteria must hold; an empty one holds for every container. A criterion is
a comma list: ``a,b`` (one of), ``!a`` (not), ``a,!b``. Case-sensitive; ``*``, ``?`` and ``[…]``
stand for characters as in a shell's patterns. A container's name may be given as the beginning of
its id.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Iterator, Mapping

from ig_py.containers.model import Container
from ig_py.errors import UsageError
from ig_py.records import dataclass, field

IMAGE_PREFIX = 12
"""Image ids and digests are compared by this many characters after ``sha256:``."""
MIN_ID_PREFIX = 8
"""Digits of a container's id that stand for its name."""
_ID_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_ID_PREFIX},64}}")
_WILDCARD = re.compile(r"[*?[]")


_FLAGS = {
    "container_name": "containername",
    "image_digest": "runtime-containerimage-digest",
    "image_id": "runtime-containerimage-id",
    "namespace": "k8s-namespace",
    "pod_name": "k8s-podname",
    "k8s_container_name": "k8s-containername",
    "labels": "k8s-selector",
    "runtime_name": "runtime",
}
"""Argument of :meth:`Selector.parse` → the flag that gives it."""


def image_prefix(value: str) -> str:
    """``sha256:ed5fc267dcd0c529…`` → ``ed5fc267dcd0``."""
    return value.split(":", 1)[-1][:IMAGE_PREFIX]


def _same(value: str) -> str:
    return value


@dataclass(frozen=True, slots=True)
class Criterion:
    """A parsed comma list."""

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    normalize: Callable[[str], str] = _same

    @classmethod
    def parse(cls, source: str, normalize: Callable[[str], str] = _same) -> Criterion:
        items = [item for item in source.split(",") if item]
        return cls(
            frozenset(normalize(i) for i in items if not i.startswith("!")),
            frozenset(normalize(i[1:]) for i in items if i.startswith("!")),
            normalize,
        )

    def matches(self, value: str, container_id: str = "") -> bool:
        """*container_id*: its beginning stands for *value* as well; "" where it does not."""
        value = self.normalize(value)
        if _has(self.exclude, value, container_id):
            return False
        return not self.include or _has(self.include, value, container_id)


def _has(items: frozenset[str], value: str, container_id: str) -> bool:
    return value in items or any(
        (_WILDCARD.search(item) and _pattern(item).match(value))
        or (container_id.startswith(item) and _ID_PREFIX.fullmatch(item))
        for item in items
    )


@functools.lru_cache(256)
def _pattern(item: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(item))


@dataclass(frozen=True, slots=True)
class Selector:
    """A conjunction of criteria; ``Selector()`` selects every container."""

    runtime_name: Criterion = field(default_factory=Criterion)
    container_name: Criterion = field(default_factory=Criterion)
    image_digest: Criterion = field(default_factory=Criterion)
    image_id: Criterion = field(default_factory=Criterion)
    namespace: Criterion = field(default_factory=Criterion)
    pod_name: Criterion = field(default_factory=Criterion)
    k8s_container_name: Criterion = field(default_factory=Criterion)
    labels: Mapping[str, Criterion] = field(default_factory=dict)
    given: tuple[tuple[str, str], ...] = ()
    """Flags and their values, as the user gave them."""

    @classmethod
    def parse(
        cls,
        *,
        container_name: str = "",
        image_digest: str = "",
        image_id: str = "",
        namespace: str = "",
        pod_name: str = "",
        k8s_container_name: str = "",
        labels: str = "",
        runtime_name: str = "",
    ) -> Selector:
        """Each argument as the user gave it.

        Raises:
            UsageError: *labels* is no ``key=value,…`` list.
        """
        values = {
            "container_name": container_name,
            "image_digest": image_digest,
            "image_id": image_id,
            "namespace": namespace,
            "pod_name": pod_name,
            "k8s_container_name": k8s_container_name,
            "labels": labels,
            "runtime_name": runtime_name,
        }
        return cls(
            runtime_name=Criterion.parse(runtime_name),
            container_name=Criterion.parse(container_name),
            image_digest=Criterion.parse(image_digest, image_prefix),
            image_id=Criterion.parse(image_id, image_prefix),
            namespace=Criterion.parse(namespace),
            pod_name=Criterion.parse(pod_name),
            k8s_container_name=Criterion.parse(k8s_container_name),
            labels=parse_labels(labels),
            given=tuple((_FLAGS[key], value) for key, value in values.items() if value),
        )

    def names(self) -> Iterator[tuple[str, str, Selector]]:
        """(flag, name, what selects by that name alone) of each name that a list has; not those
        that are left out (``!``), and not labels."""
        arguments = {flag: argument for argument, flag in _FLAGS.items()}
        for flag, value in self.given:
            if flag == _FLAGS["labels"]:
                continue
            for name in dict.fromkeys(value.split(",")):
                if name and not name.startswith("!"):
                    yield flag, name, Selector.parse(**{arguments[flag]: name})

    @property
    def everything(self) -> bool:
        """True when no criterion was given."""
        criteria = (
            self.runtime_name,
            self.container_name,
            self.image_digest,
            self.image_id,
            self.namespace,
            self.pod_name,
            self.k8s_container_name,
        )
        return not self.labels and not any(c.include or c.exclude for c in criteria)

    def matches(self, container: Container) -> bool:
        runtime, k8s = container.runtime, container.k8s
        return (
            self.runtime_name.matches(runtime.name)
            and self.container_name.matches(runtime.container_name, runtime.container_id)
            and self.image_digest.matches(runtime.image_digest)
            and self.image_id.matches(runtime.image_id)
            and self.namespace.matches(k8s.namespace)
            and self.pod_name.matches(k8s.pod_name)
            and self.k8s_container_name.matches(k8s.container_name)
            and self._labels_match(k8s.pod_labels)
        )

    def _labels_match(self, present: Mapping[str, str]) -> bool:
        for key, criterion in self.labels.items():
            if key.startswith("!"):
                value = present.get(key[1:])
                if value is not None and criterion.matches(value):
                    return False
            else:
                value = present.get(key)
                if value is None or not criterion.matches(value):
                    return False
        return True


def parse_labels(source: str) -> dict[str, Criterion]:
    """``app=web,tier=!db,!debug=true`` → label key (``!`` kept) → criterion.

    Raises:
        UsageError: An element has not exactly one ``=``.
    """
    result: dict[str, Criterion] = {}
    for item in source.split(",") if source else ():
        key, sign, value = item.partition("=")
        if not sign or "=" in value:
            raise UsageError(
                f"label selector {source!a}: {item!a} is not one key=value pair",
                remedy="give key=value[,key=value,...]",
            )
        result[key] = Criterion.parse(value)
    return result
