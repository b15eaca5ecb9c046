"""Data sources that ask for what only the Kubernetes API knows, which this version does not ask.

Facts: the annotation ``generate_networkpolicy.enable`` of a data source. In `ig` an operator reads
its events, with the names and owners of pods beside them, and prints policies instead of them: such
a run would show nothing. ``kubenameresolver.enable`` adds the addresses of an event's pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import ContainerError
from ig_py.operators.base import Context, Operator

if TYPE_CHECKING:
    from ig_py.operators.parts import LoadParts
    from ig_py.operators.running import Host

ENABLE = "generate_networkpolicy.enable"
NAMES = "kubenameresolver.enable"
POD_ADDRESSES = ("k8s.podIP", "k8s.hostIP")
"""Fields that `ig` adds where :data:`NAMES` is ``true``."""


class GenerateNetworkPolicy(Operator):
    """Refuses the run; the image can be inspected."""

    name: ClassVar[str] = "GenerateNetworkPolicy"
    priority: ClassVar[int] = 9200

    def __init__(self) -> None:
        self._datasources: list[str] = []

    def instantiate(self, ctx: Context) -> bool:
        self._datasources = [
            ds.name for ds in ctx.spec.datasources if ds.annotations.get(ENABLE) == "true"
        ]
        for ds in ctx.spec.datasources:
            if ds.annotations.get(NAMES) == "true":
                ds.notes.append(
                    f"data source {ds.name!r} asks for the addresses of pods ({NAMES}), and this "
                    "version has no access to Kubernetes: the fields "
                    f"{' and '.join(POD_ADDRESSES)} are missing"
                )
        return bool(self._datasources)

    def pre_start(self, ctx: Context, load: LoadParts, host: Host) -> None:
        """
        Raises:
            ContainerError: Always.
        """
        raise ContainerError(
            f"running gadget {ctx.spec.name!a}: its data source {self._datasources[0]!a} becomes "
            "network policies of Kubernetes pods, and this version has no access to Kubernetes",
            remedy="run it on a cluster with Inspektor Gadget's kubectl gadget",
        )
