"""Names of kernel stacks and of user stacks (docs/reference/ebpf.md#stacks)."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import ObjectError, UsageError
from ig_py.gadget.datasource import add_field, add_formatted_field, children, hide_tree
from ig_py.gadget.spec import DataSourceSpec, FieldSpec, Flag, GadgetSpec, Kind, ParamSpec
from ig_py.operators.base import Context, Operator
from ig_py.operators.formatters import formatted_name, is_taken
from ig_py.operators.parts import Turn

if TYPE_CHECKING:
    from ig_py.operators.running import Running

KERNEL_TYPE = "gadget_kernel_stack"
KERNEL_MAP = "ig_kstack"
KERNEL_TARGET = "ebpf.formatter.kstack"
USER_TYPE = "gadget_user_stack"
USER_MAP = "ig_ustack"
BUILD_ID_MAP = "ig_build_id"
log = logging.getLogger(__name__)

PREFIX = "operator.ustack."
SYMBOLIZERS = "symbolizers"
CACHE_PATH = "debuginfod-cache-path"
SYMTAB, DEBUGINFOD = "symtab", "debuginfod-cache"
MOST_MISSING = 64
"""Most build ids without symbols that the core lists."""
MAX_LISTED = 5
"""Most build ids in a warning."""
TEXTS = ("addresses", "buildid", "symbols")
"""Fields added below a user stack."""
_MEMBERS = (
    "stack_id",
    "major",
    "minor",
    "inode",
    "mtime_sec",
    "mtime_nsec",
    "base_addr_hash",
    "tgid_level0",
    "pid_level0",
    "pidns_level0",
    "pid_level1",
    "pidns_level1",
)


def _map(spec: GadgetSpec, name: str, source: FieldSpec) -> str:
    if spec.map(name) is None:
        raise ObjectError(
            f'field "{source.full_name}" is a stack, but the object has no map "{name}"',
            remedy="include the header of gadget/ that declares it",
        )
    return name


class KernelStack(Operator):
    """Belongs to the eBPF layer, whose fields are declared before those of other operators."""

    name: ClassVar[str] = "kstack"
    priority: ClassVar[int] = -1000

    def instantiate(self, ctx: Context) -> bool:
        active = False
        for ds in ctx.spec.datasources:
            for source in [f for f in ds.fields if f.has_type(KERNEL_TYPE)]:
                name = formatted_name(source, KERNEL_TARGET)
                if not name and not source.array:
                    # As of enums: `ig` hides it before it looks whether the field's name fits.
                    source.flags |= Flag.HIDDEN
                    ds.notes.append(
                        f"kernel stack {source.full_name!r} of {ds.name!r} is a number, and no "
                        "column unless --fields asks for it: its name does not end in _raw and it "
                        f"has no annotation {KERNEL_TARGET!r}"
                    )
                if not name or source.array or is_taken(ds, source, name):
                    continue
                found = _map(ctx.spec, KERNEL_MAP, source)
                source.flags |= Flag.HIDDEN
                formatted = add_formatted_field(ds, source, name)
                ctx.plan.add_step(
                    ds.name,
                    0,
                    Turn.LAYER,
                    op="kernel_stack",
                    src=source.index,
                    dst=formatted.index,
                    map=found,
                )
                active = True
        return active


class UserStack(Operator):
    name: ClassVar[str] = "ustack"
    priority: ClassVar[int] = 100

    def __init__(self) -> None:
        self._cache = ""

    def instantiate(self, ctx: Context) -> bool:
        wanted = _wanted(ctx.param(PREFIX + SYMBOLIZERS))
        active = False
        for ds in ctx.spec.datasources:
            for source in [f for f in ds.fields if f.has_type(USER_TYPE)]:
                active |= _add_texts(ctx, ds, source, bool(wanted))
        if active:
            _check_cache_is_used(ctx, wanted)
            ctx.plan.symbols = {"symtab": SYMTAB in wanted}
            if DEBUGINFOD in wanted:
                self._cache = _cache(ctx.param(PREFIX + CACHE_PATH))
                ctx.plan.symbols["debuginfod"] = self._cache
            ctx.spec.params.append(
                ParamSpec(
                    key=SYMBOLIZERS,
                    prefix=PREFIX,
                    default="auto",
                    title="Symbolizers",
                    description="How addresses of user stacks are named: auto, none, or a list "
                    "with symtab (symbol tables and perf maps) and debuginfod-cache",
                    type_hint="string",
                )
            )
            ctx.spec.params.append(
                ParamSpec(
                    key=CACHE_PATH,
                    prefix=PREFIX,
                    title="Debuginfod cache",
                    description="Where debuginfod-find keeps symbols (default"
                    " $DEBUGINFOD_CACHE_PATH or ~/.cache/debuginfod_client)",
                    type_hint="string",
                )
            )
        return active

    def drained(self, running: Running) -> bool:
        missing = running.stream.missing_debuginfo() if self._cache else []
        if missing:
            log.warning(
                "%s has no symbols of %s files; download them: debuginfod-find debuginfo ID,"
                " where ID is %s",
                self._cache,
                f"{len(missing)} or more" if len(missing) >= MOST_MISSING else len(missing),
                ", ".join(missing[:MAX_LISTED]) + (", ..." if len(missing) > MAX_LISTED else ""),
            )
        return False


def _add_texts(ctx: Context, ds: DataSourceSpec, source: FieldSpec, named: bool) -> bool:
    members = {f.name: f.index for f in children(ds, source)}
    lacking = [name for name in _MEMBERS if name not in members]
    if lacking:
        ds.notes.append(
            f"field {source.full_name!r} of {ds.name!r} is no stack: it has no {lacking[0]!r}"
        )
        return False
    found = _map(ctx.spec, USER_MAP, source)
    build_ids = BUILD_ID_MAP if ctx.spec.map(BUILD_ID_MAP) is not None else None
    hide_tree(ds, source)
    texts: dict[str, int | None] = {}
    for name in TEXTS:
        tags = [f"name:{name}", "operator:ustack"]
        field = add_field(ds, name, Kind.STRING, parent=source, tags=tags, flags=Flag.HIDDEN)
        texts[name] = field.index
    if not named:
        texts["symbols"] = None
    ctx.plan.add_step(
        ds.name,
        100,
        op="user_stack",
        members={name: members[name] for name in _MEMBERS},
        map=found,
        build_id_map=build_ids,
        **texts,
    )
    return True


def _wanted(text: str) -> set[str]:
    """The symbolizers that ``--symbolizers`` *text* lists; empty for ``none``.

    Raises:
        UsageError: A name is unknown, or ``none`` is not alone.
    """
    wanted = {part.strip() for part in text.split(",")} - {""}
    if unknown := sorted(wanted - {"auto", "none", SYMTAB, DEBUGINFOD}):
        raise UsageError(
            f'--{SYMBOLIZERS}: "{unknown[0]}" is none of auto, none, {SYMTAB}, {DEBUGINFOD}',
            remedy="this version names stacks by symbol tables and debuginfod's cache only",
        )
    if "none" in wanted and len(wanted) > 1:
        raise UsageError(f"--{SYMBOLIZERS}: none with other symbolizers", remedy="give none alone")
    if not wanted or "auto" in wanted:
        wanted = (wanted - {"auto"}) | {SYMTAB}
    return wanted - {"none"}


def _check_cache_is_used(ctx: Context, wanted: set[str]) -> None:
    """
    Raises:
        UsageError: The user gives a cache that no symbolizer reads.
    """
    name = PREFIX + CACHE_PATH
    if ctx.param(name) and DEBUGINFOD not in wanted and not ctx.is_from_gadget(name):
        raise UsageError(
            f"--{CACHE_PATH} has no effect: debuginfod's cache is not read",
            remedy=f"add --{SYMBOLIZERS}=symtab,{DEBUGINFOD}",
        )


def _cache(text: str) -> str:
    """Directory in which debuginfod's clients keep downloads (debuginfod-find(1))."""
    if text:
        return text
    if given := os.environ.get("DEBUGINFOD_CACHE_PATH"):
        return given
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return str(Path(base, "debuginfod_client"))
