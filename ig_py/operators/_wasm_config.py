"""The configuration that a wasm module sets: keys of gadget.yaml that take effect at load."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ig_py.escaping import safe
from ig_py.gadget import sections
from ig_py.gadget.spec import GadgetSpec, ProgramSpec

log = logging.getLogger(__name__)


def apply_config(spec: GadgetSpec, config: Sequence[tuple[str, str]]) -> None:
    """Apply ``setConfig``'s (key, value) pairs: ``programs.NAME.attach_to``.

    Any other key has no effect, which is said: the gadget has been read already.
    """
    for key, value in config:
        parts = key.split(".")
        if len(parts) < 3 or parts[0] != "programs" or parts[-1] != "attach_to":
            log.warning(
                "%s (wasm): setConfig: key %s has no effect; programs.NAME.attach_to has",
                safe(spec.name),
                safe(key),
            )
            continue
        _attach_to(spec, ".".join(parts[1:-1]), value)


def _attach_to(spec: GadgetSpec, name: str, target: str) -> None:
    for index, program in enumerate(spec.programs):
        if program.name.lower() == name.lower():
            spec.programs[index] = _attached(program, target)
            return
    log.warning("%s (wasm): setConfig: there is no program %s", safe(spec.name), safe(name))


def _attached(program: ProgramSpec, target: str) -> ProgramSpec:
    disabled = sections.disables(target or program.section.partition("/")[2])
    return ProgramSpec(
        program.name,
        program.section,
        optional=program.optional,
        fields_if_absent=program.fields_if_absent,
        attach_to="" if disabled else target,
        disabled=disabled,
        in_map=program.in_map,
    )
