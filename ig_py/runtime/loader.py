"""Loading a gadget's object into the kernel: constants, map sizes, optional programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py.errors import (
    IgPyError,
    KernelError,
    LimitError,
    MetadataError,
    ObjectError,
    UsageError,
    VerifierRejected,
    listed,
)
from ig_py.gadget import sections
from ig_py.gadget.spec import GadgetSpec, ProgramSpec, VariableSpec
from ig_py.host.descriptors import REMEDY as DESCRIPTORS_REMEDY
from ig_py.host.descriptors import USED_UP
from ig_py.records import dataclass, field
from ig_py.runtime.image_btf import ImageBtf
from ig_py.runtime.map_sizes import LESS_MEMORY, MapSizes
from ig_py.runtime.verifier_work import processed

if TYPE_CHECKING:
    from ig_py._core import CoreError, Object
    from ig_py.operators.parts import LoadParts
    from ig_py.runtime.attach import Attacher

MAX_CONSTANT = 64 << 10
"""Bytes of a variable that an operator sets: .bss can claim any size without having content."""

MAX_REFUSED = 32
"""Optional programs that the kernel may refuse: for each the whole object is loaded again. Those
for which the kernel lacks the kind of program are not tried, and do not count."""

MEMORY_REMEDY = (
    "raise RLIMIT_MEMLOCK (ulimit -l) or the control group's memory limit, "
    "or ask for less with --buffer-size"
)
"""libbpf raises RLIMIT_MEMLOCK itself, on kernels that count it and where it may."""
LIMITS = {"memory": MEMORY_REMEDY, "descriptors": DESCRIPTORS_REMEDY}
"""Kinds of the core's errors about something used up, which is no program's fault → what to do."""

MAX_LOGGED = 50_000
"""Instructions that the verifier has processed of a program that it refuses, for it to be loaded
again for a log of each of them: that takes ten times as long, and 30 bytes or more for each."""

_TOLD_BY_LIBBPF = frozenset({"open", "load", "btf"})
"""Kinds of the core's errors whose cause only libbpf's log names, where no program is at fault."""
_NO_REASONS = ("failed to load object", "failed to load BPF skeleton", "Error in bpf_create_map")
"""Begin warnings of libbpf that come with every failure, or after which it tries again."""

VMLINUX_BTF = Path("/sys/kernel/btf/vmlinux")
NO_RINGBUF = "IG_PY_NO_RINGBUF"
"""Environment variable: ``1`` makes every run use perf buffers, as old kernels need it."""


_FEATURES = {
    ("kprobe", "kprobes"): ("kprobe", "kretprobe", "ksyscall", "kretsyscall"),
    ("fentry", "fentry programs"): ("fentry", "fexit", "fmod_ret"),
    ("lsm", "BPF LSM programs"): ("lsm",),
    ("iter", "BPF iterators"): ("iter",),
    ("uprobe", "uprobes"): ("uprobe", "uretprobe", "usdt"),
    ("raw_tracepoint", "raw tracepoints"): ("raw_tracepoint", "raw_tp"),
    ("tracepoint", "tracepoints"): ("tracepoint", "tp"),
}
"""(feature of the core's probe, in words) → kinds of program that need it."""


@dataclass
class LoadSettings:
    """The user's share of what is loaded, beside what operators add.

    Attributes:
        buffer_size: Bytes of each event map's buffer; None: DEFAULT_BUFFER_SIZE, or what the
            gadget declares where that is more.
        values: The eBPF parameters' bytes, by variable name.
        skip_unsupported: Every program is optional.
        no_ringbuf: Load as on a kernel without ring buffers.
    """

    buffer_size: int | None = None
    values: Mapping[str, bytes] = field(default_factory=dict)
    skip_unsupported: bool = False
    no_ringbuf: bool = False


class Loader:
    """Loads one object and attaches its programs.

    Args:
        warn: Gets what the user should know.
        image_btf: Where the kernel's types are looked for when it has no BTF.
        refused: Gets the verifier's log of each program that is refused, in brief.
    """

    def __init__(
        self,
        elf: bytes,
        spec: GadgetSpec,
        parts: LoadParts,
        settings: LoadSettings,
        warn: Callable[[str], None],
        image_btf: ImageBtf,
        refused: Callable[[str], None] = lambda _log: None,
    ) -> None:
        self._elf = elf
        self._spec = spec
        self._parts = parts
        self._settings = settings
        self._image_btf = image_btf
        self._warn = warn
        self._tell_refused = refused
        self._skipped: dict[str, str] = {}
        self._probed: dict[str, bool] = {}
        self.sizes = MapSizes(elf, spec, settings.buffer_size, settings.values)

    def load(self) -> Object:
        """Open, configure and load; when it fails, nothing stays in the kernel.

        Raises:
            VerifierRejected: The kernel's verifier rejects a program; its log is the detail.
            KernelError: The kernel refuses for another reason.
            ObjectError: The object, or what its variables and maps are set to, is not valid.
            UsageError: A map's size is out of bounds.
            LimitError: The gadget declares larger event maps than are allowed, or the kernel
                refuses more than :data:`MAX_REFUSED` optional programs.
        """
        from ig_py._core import CoreError

        refused = 0
        try:
            for program in self._spec.programs:
                if not (program.loaded and self._optional(program)):
                    continue
                if lack := self._lacks(program):
                    self._skip(program, f"this kernel has no {lack}")
        except CoreError as err:
            raise self._explain(err) from err
        while True:
            try:
                return self._load_once()
            except CoreError as err:
                if err.kind == "memory" and self.sizes.take_less():
                    self._warn(LESS_MEMORY)
                    continue
                self._tell_refused(err.log)
                blamed = self._refused(err)
                refused += 1
                if refused > MAX_REFUSED:
                    raise LimitError(
                        f"running gadget {self._spec.name}: the kernel refuses more than "
                        f"{MAX_REFUSED} optional programs, lastly: {err.message}",
                        remedy="disable programs with gadget_program_disabled",
                        detail=err.log,
                    ) from err
                for program in blamed:
                    self._skip(program, err.message)

    def _refused(self, err: CoreError) -> list[ProgramSpec]:
        """The optional programs that *err* is about, or may be about; others are raised."""
        kind, name = err.kind, err.program
        optional = [
            p for p in self._spec.programs if p.loaded and self._wanted(p) and self._optional(p)
        ]
        blamed = [p for p in optional if p.name == name]
        if not blamed and not name:
            # The core does not name the program: try without all optional ones.
            blamed = optional
        if kind not in ("verifier", "load", "absent") or not blamed:
            refused = next((p for p in self._spec.programs if p.name == name), None)
            raise self._explain(self._with_whole_log(err), refused) from err
        return blamed

    def _with_whole_log(self, err: CoreError) -> CoreError:
        """*err* with each instruction in the verifier's log, where that is not too long."""
        from ig_py._core import CoreError

        if err.kind != "verifier" or processed(err.log) > MAX_LOGGED:
            return err
        try:
            self._load_once(brief=False).close()
        except CoreError as again:
            if again.kind == err.kind and again.program == err.program:
                return again
        return err

    def attach(self, attacher: Attacher, check: Callable[[], None]) -> None:
        """Attach every program.

        Args:
            check: Called before each program; may raise to stop.

        Raises:
            KernelError: A program that is not optional cannot be attached, or
                ``skip_unsupported`` leaves none.
        """
        from ig_py._core import CoreError

        failure: CoreError | None = None
        attached = False
        for program in self._spec.programs:
            if program.disabled or not self._wanted(program):
                continue
            check()
            try:
                attacher.attach(program)
                attached = True
            except CoreError as err:
                if not self._optional(program) or err.kind in LIMITS:
                    raise self._explain(err, program) from err
                failure = err
                self._skip(program, err.message)
            except (MetadataError, ObjectError, UsageError) as err:
                # Nothing says to what it is to be attached.
                if not program.optional:
                    raise
                self._skip(program, err.message.removeprefix(f"{_words(program)}: "))
        if self._settings.skip_unsupported and self._skipped and not attached:
            raise KernelError(
                f"running gadget {self._spec.name}: none of its programs can run on this kernel: "
                f"{next(iter(self._skipped.values()))}",
                remedy="ig-py doctor lists what this kernel has",
            ) from failure

    def _optional(self, program: ProgramSpec) -> bool:
        return program.optional or self._settings.skip_unsupported

    def _wanted(self, program: ProgramSpec) -> bool:
        return program.name not in self._skipped

    def _skip(self, program: ProgramSpec, why: str) -> None:
        self._skipped[program.name] = why
        text = f"{_words(program)} is skipped: {why}"
        if program.fields_if_absent:
            text += f"; these fields stay empty: {listed(program.fields_if_absent)}"
        self._warn(text)

    def _load_once(self, *, brief: bool = True) -> Object:
        from ig_py._core import Object

        name = self._spec.name[:64] or "gadget"
        types = self._kernel_types()
        obj = Object(self._elf, name, types) if types else Object(self._elf, name)
        try:
            self._configure(obj)
            obj.load(brief=brief)
        except BaseException:
            obj.close()
            raise
        return obj

    def _kernel_types(self) -> bytes | None:
        """The BTF to relocate the object against; None for the kernel's own, if it has one."""
        no_ringbuf, structs = self._settings.no_ringbuf, self._parts.kernel_structs
        types = None if self._kernel_has_btf() else self._image_btf.find()
        if not no_ringbuf and not structs:
            return types
        from ig_py._core import btf_with_struct

        types = types or kernel_types()
        if no_ringbuf:
            types = without_rings(types)
        for struct in structs:
            types = btf_with_struct(types, struct.name, struct.size, struct.members)
        return types

    def _kernel_has_btf(self) -> bool:
        # The file is looked for first: libbpf parses what it finds, and looks in /boot too.
        return VMLINUX_BTF.exists() or self._has("btf")

    def _configure(self, obj: Object) -> None:
        known = {info["name"] for info in obj.programs()}
        for program in self._spec.programs:
            if program.name not in known:
                continue
            if not (self._wanted(program) and program.loaded):
                obj.set_autoload(program.name, False)
                continue
            if sections.is_optional(program.section):
                obj.set_autoload(program.name, True)
            if program.attach_to:
                obj.set_attach_target(program.name, program.attach_to)
        for name, raw in self._settings.values.items():
            self._set(obj, name, raw)
        for name, value in self._parts.constants.items():
            self._set(obj, name, self._encode(name, value))
        rings = not self._settings.no_ringbuf and (
            not self._spec.tracer_maps or self._has("ringbuf")
        )
        self.sizes.apply(obj, rings=rings)
        for name, size in self._parts.value_sizes.items():
            if known_map := self._spec.map(name):
                obj.set_map_type(name, known_map.type, known_map.key_size, size)
        for name, replacement in self._parts.maps.items():
            if self._spec.map(name) is not None:
                obj.reuse_map(name, replacement)

    def _variable(self, name: str) -> VariableSpec:
        variable = self._spec.variable(name)
        if variable is None:
            raise ObjectError(f'gadget {self._spec.name}: the object has no variable "{name}"')
        return variable

    def _encode(self, name: str, value: bool | int | bytes) -> bytes:
        size = self._variable(name).size
        if size > MAX_CONSTANT:
            raise ObjectError(
                f'gadget {self._spec.name}: variable "{name}" has {size} bytes, '
                f"at most {MAX_CONSTANT} can be set"
            )
        if isinstance(value, bytes):
            return value.ljust(size, b"\0")
        try:
            return int(value).to_bytes(size, "little", signed=value < 0)
        except OverflowError as err:
            raise ObjectError(f'variable "{name}" of {size} bytes cannot hold {value}') from err

    def _set(self, obj: Object, name: str, raw: bytes) -> None:
        variable = self._variable(name)
        if len(raw) != variable.size:
            raise ObjectError(
                f'variable "{name}" has {variable.size} bytes, its value {len(raw)}: '
                "not a value of this variable"
            )
        obj.set_data(variable.section, variable.offset, raw)

    def _has(self, feature: str) -> bool:
        from ig_py._core import probe

        if feature not in self._probed:
            self._probed[feature] = probe(feature)
        return self._probed[feature]

    def _lacks(self, program: ProgramSpec) -> str:
        """What *program* needs and the kernel lacks, in words; "" when it lacks nothing."""
        kind = sections.kind(program.section)
        for (feature, words), kinds in _FEATURES.items():
            if kind in kinds:
                return "" if self._has(feature) else words
        return ""

    def _explain(self, err: CoreError, program: ProgramSpec | None = None) -> IgPyError:
        kind, message, log = err.kind, err.message, err.log
        what = f"running gadget {self._spec.name}: {message}"
        if kind in _TOLD_BY_LIBBPF and not err.program and (reason := _libbpf_reason(log)):
            what += f": {reason}"
        if kind == "verifier":
            return VerifierRejected(
                f"{what}{_verifier_reason(log)}", remedy="-v shows the whole log", detail=log
            )
        if kind in LIMITS:
            return KernelError(what, remedy=LIMITS[kind], detail=log)
        if not self._kernel_has_btf() and self._image_btf.find() is None:
            return KernelError(
                f"{what} (this kernel has no BTF, and {self._image_btf.why_not()})",
                remedy="use a kernel built with CONFIG_DEBUG_INFO_BTF, or an image built with "
                "--btfgen for this kernel",
                detail=log,
            )
        if kind in ("open", "btf", "map", "plan"):
            return ObjectError(what, detail=log)
        if program is not None and (lack := self._known_lack(program)):
            what += f" (this kernel has no {lack})"
        return KernelError(what, detail=log)

    def _known_lack(self, program: ProgramSpec) -> str:
        """As :meth:`_lacks`; "" also where that cannot be found out."""
        from ig_py._core import CoreError

        try:
            return self._lacks(program)
        except CoreError:
            return ""


def _words(program: ProgramSpec) -> str:
    return f'program "{program.name}" ({program.section})'


def without_rings(types: bytes) -> bytes:
    """BTF in which the ring buffer helpers have other names, so that objects relocated against it
    use perf buffers. Names keep their length: no offset in the BTF changes."""
    return types.replace(b"BPF_FUNC_ringbuf_", b"BPF_FUNC_without_")


def kernel_types() -> bytes:
    """The kernel's BTF.

    Raises:
        KernelError: The kernel has no BTF.
    """
    try:
        return VMLINUX_BTF.read_bytes()
    except OSError as err:
        raise KernelError(
            f"reading the kernel's types ({VMLINUX_BTF}): {err.strerror}",
            remedy=DESCRIPTORS_REMEDY
            if err.errno in USED_UP
            else "use a kernel built with CONFIG_DEBUG_INFO_BTF",
        ) from err


def _libbpf_reason(log: str) -> str:
    """The first warning of libbpf that says why it failed; "" when there is none.

    An error number alone is misleading: a function that nothing defines is ENOENT too.
    """
    for line in log.splitlines():
        prefix, found, text = line.strip().partition("libbpf: ")
        if found and not prefix and not text.startswith(_NO_REASONS):
            return text
    return ""


def _verifier_reason(log: str) -> str:
    """Why the verifier rejected the program: the last line of its log before its statistics."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("verification time ", "stack depth "))]
    end = next((i for i, line in enumerate(lines) if line.startswith("processed ")), len(lines))
    verdict = [line for line in lines[:end] if "-- BEGIN " not in line][-1:]
    return f": {verdict[0]} ({len(lines) - 1} line(s) omitted)" if verdict else ""
