"""The list of operators, and their instantiation on a gadget."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ig_py.operators.base import Context, Operator


def instances() -> list[Operator]:
    """A fresh instance of every operator, by ascending priority, then name."""
    from ig_py.operators.bpf_stats import BpfStats
    from ig_py.operators.cgroup_stats import CgroupStats
    from ig_py.operators.ebpf_enum import EbpfEnum
    from ig_py.operators.env import Env
    from ig_py.operators.filter import Filter
    from ig_py.operators.formatters import Formatters
    from ig_py.operators.limiter import Limiter
    from ig_py.operators.local_manager import LocalManager
    from ig_py.operators.network_policy import GenerateNetworkPolicy
    from ig_py.operators.otel_metrics import OtelMetrics
    from ig_py.operators.process_stats import ProcessStats
    from ig_py.operators.socket_enricher import SocketEnricher
    from ig_py.operators.sort import Sort
    from ig_py.operators.stacks import KernelStack, UserStack
    from ig_py.operators.trace_pipe import TracePipe
    from ig_py.operators.uid_gid_resolver import UidGidResolver
    from ig_py.operators.wasm import Wasm

    found: list[Operator] = [
        BpfStats(),
        CgroupStats(),
        EbpfEnum(),
        Env(),
        Filter(),
        Formatters(),
        GenerateNetworkPolicy(),
        KernelStack(),
        Limiter(),
        LocalManager(),
        OtelMetrics(),
        ProcessStats(),
        SocketEnricher(),
        Sort(),
        TracePipe(),
        UidGidResolver(),
        UserStack(),
        Wasm(),
    ]
    return sorted(found, key=lambda op: (op.priority, op.name))


def instantiate_all(ctx: Context) -> list[Operator]:
    """Instantiate every operator on ``ctx.spec``; returns those that are active, in order.

    Afterwards ``ctx.spec`` has all fields and parameters, with gadget.yaml's
    ``paramDefaults`` applied.
    """
    from ig_py.gadget.metadata import Metadata
    from ig_py.gadget.params import apply_param_defaults

    active = [op for op in instances() if op.instantiate(ctx)]
    apply_param_defaults(ctx.spec.params, Metadata(ctx.spec.metadata))
    return active
