"""``wasm``: the gadget's wasm module, which adds fields and data sources, and changes events.

Facts: docs/wasm.md. The core runs it; here are its life and what it declares.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

from ig_py.errors import KernelError, MetadataError, ObjectError, UsageError
from ig_py.escaping import safe
from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.duration import parse_duration
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.plan_fields import declaration
from ig_py.gadget.spec import DataSourceType, GadgetSpec, Kind, ParamSpec
from ig_py.host.tracefs import with_tracefs
from ig_py.operators._wasm_config import apply_config
from ig_py.operators.base import Context, Operator
from ig_py.operators.parts import Turn
from ig_py.operators.places import place

if TYPE_CHECKING:
    from ig_py._core import WasmGuest, WasmModule
    from ig_py.operators.parts import LoadParts
    from ig_py.operators.running import Host, Running

log = logging.getLogger(__name__)

PREFIX = "operator.oci.wasm."
"""Of the module's own parameters."""
TIMEOUT = "operator.wasm.wasm-timeout"
DEFAULT_TIMEOUT = "1s"
LONGEST_NS = 60_000_000_000
MAX_REASON = 200
"""Characters of what the module said last in the message when it fails; all of it is logged."""
DECLARATIONS = "getSyscallDeclaration"
_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG, 5)


class Wasm(Operator):
    name: ClassVar[str] = "wasm"
    # As the operator of an image's layers in `ig`: before all others.
    priority: ClassVar[int] = -1000

    def __init__(self) -> None:
        self._guest: WasmGuest | None = None
        self._gadget = ""
        self._upcalls: list[str] = []
        self._refused: KernelError | None = None
        """Why the formats of tracepoints cannot be read, which the module may ask for."""

    @classmethod
    def global_params(cls) -> list[ParamSpec]:
        return [
            ParamSpec(
                key="wasm-timeout",
                prefix="operator.wasm.",
                default=DEFAULT_TIMEOUT,
                title="Time of a callback",
                description="Time after which a callback of the gadget's wasm module is ended",
                type_hint="duration",
            )
        ]

    def instantiate(self, ctx: Context) -> bool:
        """Run the module's ``gadgetInit``, and declare what it asks for.

        Raises:
            ObjectError: The module is not valid, or fails.
            UsageError: ``--wasm-timeout`` is not valid.
            MetadataError: It makes what is there already, or a parameter is declared twice.
        """
        if ctx.wasm is None:
            return False
        from ig_py._core import WasmGuest

        self._gadget = ctx.spec.name
        params = wasm_params(ctx.spec)
        values = {p.key: ctx.param(p.full_name, p.default) for p in params}
        ctx.spec.params += params
        limit = _limit_ms(ctx.param(TIMEOUT) or DEFAULT_TIMEOUT)

        def start() -> WasmGuest:
            module = _compiled(ctx.wasm or b"")
            self._upcalls = module.upcalls
            return WasmGuest(module, values, _level(), limit)

        try:
            self._guest = self._do(start)
            self._open_declarations()
            self._call(ctx, "gadgetInit", Turn.MODULE_INIT)
        except ObjectError as err:
            if not ctx.inspected:
                raise
            ctx.spec.notes.append(f"{err.message}: what it would make is missing")
            return False
        return True

    def settle(self, ctx: Context) -> None:
        """Run the module's ``gadgetPreStart``, and declare what it asks for.

        Raises:
            ObjectError: The module fails.
            MetadataError: It makes what is there already.
        """
        self._call(ctx, "gadgetPreStart", Turn.MODULE_PRE_START)

    def pre_start(self, ctx: Context, load: LoadParts, host: Host) -> None:
        load.guest = self._guest

    def start(self, ctx: Context, running: Running) -> None:
        """
        Raises:
            ObjectError: The module fails.
            KernelError: tracefs cannot be mounted.
        """
        guest = self._guest
        assert guest is not None
        if self._refused is not None:
            raise self._refused
        asked = json.loads(self._do(lambda: guest.call("gadgetStart")))
        self._tell()
        for late in asked["subscriptions"]:
            found = late["source"], late["callback"], late["type"], place(late["priority"])
            self._do(partial(running.stream.subscribe, *found))
        running.accounts.append(self._tell)

    def drained(self, running: Running) -> bool:
        """
        Raises:
            ObjectError: The module fails.
        """
        guest = self._guest
        if guest is None:
            return False
        self._do(lambda: guest.call("gadgetStop"))
        self._tell()
        return True

    def stop(self) -> None:
        """
        Raises:
            ObjectError: The module fails.
        """
        guest, self._guest = self._guest, None
        if guest is None:
            return
        self._guest = guest
        self._do(lambda: guest.call("gadgetPostStop"))
        self._tell()
        self._guest = None
        calls, failed = guest.statistics()
        if failed:
            log.warning(
                "%d of %d events and arrays were shown without the gadget's wasm module, which "
                "failed",
                failed,
                calls,
            )

    def _open_declarations(self) -> None:
        """An error is kept for the run: an image is also inspected where nothing can be mounted."""
        if self._guest is None or DECLARATIONS not in self._upcalls:
            return
        try:
            with_tracefs(self._guest.open_declarations)
        except KernelError as err:
            self._refused = err

    def _call(self, ctx: Context, stage: str, turn: Turn) -> None:
        guest = self._guest
        assert guest is not None
        document = json.dumps(declaration(ctx.spec))

        def work() -> str:
            guest.declare(document)
            return guest.call(stage)

        asked = json.loads(self._do(work))
        self._tell()
        declare(ctx, asked, turn)

    def _do(self, work: Callable[[], Any]) -> Any:
        from ig_py._core import CoreError

        try:
            return work()
        except CoreError as err:
            said = self._tell()[:MAX_REASON]
            raise ObjectError(
                f"running the wasm module of gadget {self._gadget}: {err.message}"
                + (f": {said}" if said and err.kind == "wasm" else ""),
            ) from err

    def _tell(self) -> str:
        """Log what the module said; the last warning or error."""
        last = ""
        if self._guest is None:
            return last
        lines, left_out = self._guest.log()
        for level, line in lines:
            text = safe(line.rstrip("\n"))
            if _LEVELS[level] >= logging.WARNING:
                last = text
            log.log(_LEVELS[level], "%s (wasm): %s", safe(self._gadget), text)
        if left_out:
            log.warning("%s (wasm): %d more lines were left out", safe(self._gadget), left_out)
        return last


def declare(ctx: Context, asked: dict[str, Any], turn: Turn) -> None:
    """Declare in *ctx* what the module asked for (:meth:`ig_py._core.WasmGuest.call`).

    Raises:
        MetadataError: A data source or field is there already, or its entry in gadget.yaml is
            malformed.
        LimitError: There are too many.
    """
    spec = ctx.spec
    for made in asked["datasources"]:
        if spec.datasource(made["name"]) is not None:
            raise MetadataError(f"data source {made['name']!a} is declared twice")
        kind = DataSourceType.ARRAY if made["array"] else DataSourceType.SINGLE
        metadata = Metadata(spec.metadata)
        spec.datasources.append(
            new_datasource(made["name"], kind, metadata, source="operator", room=spec.room)
        )
    for added in asked["fields"]:
        ds = spec.datasource(added["source"])
        if ds is not None:
            add_field(ds, added["name"], Kind(added["kind"]))
    for tagged in asked["tags"]:
        ds = spec.datasource(tagged["source"])
        field = ds.exact(tagged["field"]) if ds is not None else None
        if field is not None and tagged["tag"] not in field.tags:
            spec.room.take_texts([tagged["tag"]])
            field.tags.append(tagged["tag"])
    for name in asked["unreferenced"]:
        if (ds := spec.datasource(name)) is not None:
            ds.unreferenced = True
    for subscription in asked["subscriptions"]:
        ctx.plan.add_step(
            subscription["source"],
            subscription["priority"],
            turn,
            op="wasm",
            callback=subscription["callback"],
            type=subscription["type"],
        )
    apply_config(spec, asked["config"])


def wasm_params(spec: GadgetSpec) -> list[ParamSpec]:
    """``params.wasm`` of gadget.yaml."""
    metadata = Metadata(spec.metadata)
    found = []
    for name in metadata.mapping(["params", "wasm"]):
        path = ["params", "wasm", name]
        key = metadata.text([*path, "key"]) or name
        found.append(
            ParamSpec(
                key=key,
                prefix=PREFIX,
                default=metadata.text([*path, "defaultValue"]),
                description=metadata.text([*path, "description"]),
                title=metadata.text([*path, "title"]),
                alias=metadata.text([*path, "alias"]),
                type_hint=metadata.text([*path, "typeHint"]),
                value_hint=metadata.text([*path, "valueHint"]),
                possible_values=metadata.text_list([*path, "possibleValues"]),
                tags=metadata.text_list([*path, "tags"]),
            )
        )
    keys = [p.key for p in [*spec.params, *found]]
    for param in found:
        if keys.count(param.key) > 1:
            raise MetadataError(f"parameter {param.key!a} is declared twice")
    return found


@lru_cache(maxsize=1)
def _compiled(module: bytes) -> WasmModule:
    # The module is instantiated again when a parameter changes what it declares.
    from ig_py._core import WasmModule

    return WasmModule(module)


def _level() -> int:
    """The last level that is logged."""
    return max((n for n, level in enumerate(_LEVELS) if log.isEnabledFor(level)), default=0)


def _limit_ms(text: str) -> int:
    try:
        limit = parse_duration(text)
    except ValueError:
        limit = 0
    if not 1_000_000 <= limit <= LONGEST_NS:
        raise UsageError(f'--wasm-timeout: "{text}" is no duration between 1ms and 1m')
    return limit // 1_000_000
