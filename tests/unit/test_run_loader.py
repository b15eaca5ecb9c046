"""Configuring, loading and attaching, on a core without a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_core import CoreError, Fake, install

from ig_py.errors import KernelError, LimitError, ObjectError, UsageError, VerifierRejected
from ig_py.gadget.maps import PERF_EVENT_ARRAY, RINGBUF
from ig_py.gadget.spec import (
    DataSourceSpec,
    DataSourceType,
    GadgetSpec,
    MapSpec,
    ProgramSpec,
    VariableSpec,
)
from ig_py.host.proc import HostView
from ig_py.operators.parts import LoadParts
from ig_py.operators.running import Host
from ig_py.runtime import loader
from ig_py.runtime.attach import Attacher
from ig_py.runtime.buffers import divided, parse_memory_limit, parse_size, ring_size
from ig_py.runtime.image_btf import ImageBtf
from ig_py.runtime.loader import MAX_LOGGED, Loader, LoadSettings
from ig_py.runtime.verifier_work import VerifierWork

LOG = "0: (b7) r0 = 0\nR1 !read_ok\nprocessed 1 insns\npeak_states 0\n"


def gadget() -> GadgetSpec:
    return GadgetSpec(
        "g",
        {},
        programs=[
            ProgramSpec("tp", "tracepoint/sched/x"),
            ProgramSpec("kp", "kprobe/f", optional=True, fields_if_absent=("file", "inode")),
            ProgramSpec("off", "tracepoint/a/b", disabled=True),
            ProgramSpec("moved", "tracepoint/a/b", attach_to="a/c"),
        ],
        maps=[MapSpec("events", 27, 0, 0, 4096), MapSpec("stacks", 1, 8, 8, 10)],
        tracer_maps=["events"],
        variables=[
            VariableSpec("on", ".rodata", 0, 1),
            VariableSpec("pid", ".rodata", 4, 4),
            VariableSpec("stacks_max_entries", ".rodata", 8, 4),
        ],
    )


NO_TYPES = ImageBtf((), HostView(), "g")


def run(
    fake: Fake,
    parts: LoadParts | None = None,
    image_btf: ImageBtf = NO_TYPES,
    **settings: object,
) -> list[str]:
    said: list[str] = []
    given = {"values": {"stacks_max_entries": (77).to_bytes(4, "little")}} | settings
    made = Loader(
        b"",
        gadget(),
        parts or LoadParts(),
        LoadSettings(**given),  # type: ignore[arg-type]
        said.append,
        image_btf,
    )
    made.attach(Attacher(made.load(), gadget(), Host(HostView())), lambda: None)
    return said


def programs() -> list[str]:
    return [p.name for p in gadget().programs]


def test_order_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, Fake(programs()))
    said = run(
        fake,
        LoadParts(constants={"on": True, "pid": -1}),
        values={"stacks_max_entries": b"\x05\0\0\0"},
        buffer_size=5000,
    )
    assert said == []
    assert fake.log == [
        "probe kprobe",
        "open",
        "set_autoload off False",
        "set_attach_target moved a/c",
        "set_data .rodata 8 b'\\x05\\x00\\x00\\x00'",
        "set_data .rodata 0 b'\\x01'",
        "set_data .rodata 4 b'\\xff\\xff\\xff\\xff'",
        "probe ringbuf",
        "set_max_entries events 8192",
        "set_max_entries stacks 5",
        "load brief",
        "attach tp",
        "attach kp",
        "attach moved",
    ]


class Types(ImageBtf):
    def __init__(self, found: bytes | None) -> None:
        super().__init__((), HostView(), "g")
        self._found = found

    def find(self) -> bytes | None:
        return self._found


def test_types_of_the_image_where_the_kernel_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    types = Types(b"BPF_FUNC_ringbuf_x")
    fake = install(monkeypatch, Fake(programs()))
    run(fake, image_btf=types)
    assert "open" in fake.log
    monkeypatch.setattr(loader, "VMLINUX_BTF", tmp_path / "none")
    fake = install(monkeypatch, Fake(programs()))
    run(fake, image_btf=types)
    assert "open" in fake.log
    fake = install(monkeypatch, Fake(programs(), {"btf": False}))
    run(fake, image_btf=types)
    assert "open with b'BPF_FUNC_ringbuf_x'" in fake.log


def test_an_object_that_needs_types_which_nothing_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing = {"load": CoreError("load", "libbpf cannot load", "")}
    monkeypatch.setattr(loader, "VMLINUX_BTF", tmp_path / "none")
    install(monkeypatch, Fake(["tp"], {"btf": False}, failing))
    with pytest.raises(KernelError, match="this kernel has no BTF, and the image brings") as caught:
        run(Fake())
    assert "--btfgen" in caught.value.remedy
    for image_btf, features in ((NO_TYPES, {}), (Types(b"x"), {"btf": False})):
        install(monkeypatch, Fake(["tp"], features, failing))
        with pytest.raises(KernelError) as caught:
            run(Fake(), image_btf=image_btf)
        assert "no BTF" not in caught.value.message


def test_perf_buffers_where_there_is_no_ring_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, Fake(programs(), {"ringbuf": False}))
    run(fake)
    assert "set_map_type events 4 4 4" in fake.log
    assert "set_max_entries events 0" in fake.log


def test_an_optional_program_that_the_kernel_cannot_have(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, Fake(programs(), {"kprobe": False}))
    assert run(fake) == [
        'program "kp" (kprobe/f) is skipped: this kernel has no kprobes; '
        "these fields stay empty: file, inode"
    ]
    assert "set_autoload kp False" in fake.log
    assert "attach kp" not in fake.log


def test_an_optional_program_that_does_not_attach(monkeypatch: pytest.MonkeyPatch) -> None:
    err = CoreError("attach", "no symbol f", "")
    fake = install(monkeypatch, Fake(programs(), fail={"attach kp": err}))
    assert run(fake) == [
        'program "kp" (kprobe/f) is skipped: no symbol f; these fields stay empty: file, inode'
    ]
    assert fake.log[-1] == "attach moved"


def test_a_program_that_must_attach(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = {"attach tp": CoreError("attach", "no such event", "")}
    install(monkeypatch, Fake(programs(), {"tracepoint": False}, fail=fail))
    with pytest.raises(KernelError) as caught:
        run(Fake())
    assert str(caught.value) == ("running gadget g: no such event (this kernel has no tracepoints)")


def test_every_program_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = {"attach tp": CoreError("absent", "no such event", "")}
    fake = install(monkeypatch, Fake(programs(), fail=fail))
    assert run(fake, skip_unsupported=True) == [
        'program "tp" (tracepoint/sched/x) is skipped: no such event'
    ]
    assert fake.log[-1] == "attach moved"


def test_not_all_programs_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = {"attach": CoreError("absent", "no such event", "")}
    install(monkeypatch, Fake(programs(), fail=fail))
    with pytest.raises(KernelError) as caught:
        run(Fake(), skip_unsupported=True)
    assert "none of its programs can run on this kernel: no such event" in str(caught.value)


def test_only_the_program_that_is_refused_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = {"load": CoreError("absent", "nothing to attach tp to", LOG, "tp")}
    fake = install(monkeypatch, Fake(programs(), fail=fail))

    def forgive(what: str) -> None:
        if what == "set_autoload tp False":
            fake.fail.clear()
        did(what)

    did, fake.did = fake.did, forgive  # type: ignore[method-assign]
    assert run(fake, skip_unsupported=True) == [
        'program "tp" (tracepoint/sched/x) is skipped: nothing to attach tp to'
    ]
    assert "attach kp" in fake.log and "attach tp" not in fake.log


def test_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = {"load": CoreError("memory", "the kernel does not create map events of g: no", LOG)}
    install(monkeypatch, Fake(programs(), fail=fail))
    with pytest.raises(KernelError) as caught:
        run(Fake())
    assert "map events" in str(caught.value)
    assert "RLIMIT_MEMLOCK" in str(caught.value) and "--buffer-size" in str(caught.value)


def test_the_verifier_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = {"load": CoreError("verifier", "program tp rejected", LOG)}
    fake = install(monkeypatch, Fake(programs(), fail=fail))
    with pytest.raises(VerifierRejected) as caught:
        run(fake)
    assert str(caught.value) == (
        "running gadget g: program tp rejected: R1 !read_ok (3 line(s) omitted): "
        "-v shows the whole log"
    )
    assert caught.value.detail == LOG
    # Loaded again without the optional program, and for the whole log; no descriptor stays open.
    assert [did for did in fake.log if did.startswith("load")] == ["load brief"] * 2 + ["load"]
    assert fake.open_objects == 0


@pytest.mark.parametrize(
    ("count", "detail"),
    [(MAX_LOGGED, "each instruction"), (MAX_LOGGED + 1, "brief"), (1_000_001, "brief")],
)
def test_a_log_that_takes_long_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, count: int, detail: str
) -> None:
    fail = {
        "load brief": CoreError("verifier", "refused", f"brief\nprocessed {count} insns", "tp"),
        "load": CoreError("verifier", "refused", f"each instruction\nprocessed {count}", "tp"),
    }
    fake = install(monkeypatch, Fake(programs(), fail=fail))
    with pytest.raises(VerifierRejected) as caught:
        run(fake)
    assert caught.value.detail.startswith(detail)
    assert fake.open_objects == 0


def test_counts_of_the_verifier_are_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    log = (
        "libbpf: prog 'tp': -- BEGIN PROG LOAD LOG --\nBPF program is too large. Processed 9 insn\n"
        "verification time 2342165 usec\nstack depth 0\nprocessed 1000001 insns (limit 1000000)\n"
    )
    fail = {"load": CoreError("verifier", "tp rejected", log, "tp")}
    install(monkeypatch, Fake(programs(), fail=fail))
    with pytest.raises(VerifierRejected, match=r"rejected: BPF program is too large\. .* \(2 line"):
        run(Fake(programs()))


@pytest.mark.parametrize("second", [None, CoreError("memory", "none is left", LOG, "tp")])
def test_a_second_load_that_does_not_fail_alike_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, second: CoreError | None
) -> None:
    fake = install(monkeypatch, Fake(programs()))

    def did(what: str) -> None:
        if what == "load brief":
            raise CoreError("verifier", "refused", LOG, "tp")
        if what == "load" and second is not None:
            raise second

    monkeypatch.setattr(fake, "did", did)
    with pytest.raises(VerifierRejected) as caught:
        run(fake)
    assert caught.value.detail == LOG
    assert fake.open_objects == 0


def test_the_verifier_refuses_an_optional_program(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, Fake(programs()))
    fake.fail["load"] = CoreError("verifier", "program kp rejected", LOG)
    original = fake.did

    def did(what: str) -> None:
        if what == "set_autoload kp False":
            del fake.fail["load"]
        original(what)

    monkeypatch.setattr(fake, "did", did)
    said = run(fake)
    assert len(said) == 1
    assert said[0].startswith('program "kp" (kprobe/f) is skipped: program kp rejected')
    assert fake.open_objects == 1


def test_libbpf_says_why_an_object_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    log = "libbpf: failed to find BTF for extern 'foo': -2\nlibbpf: failed to load object 'g'\n"
    no_file = "libbpf cannot open object g: No such file or directory (os error 2)"
    fake = install(monkeypatch, Fake(programs(), fail={"load": CoreError("open", no_file, log)}))
    with pytest.raises(ObjectError) as caught:
        run(fake)
    assert str(caught.value) == (
        f"running gadget g: {no_file}: failed to find BTF for extern 'foo': -2"
    )


def test_a_log_that_says_nothing_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = "libbpf: failed to load object 'g'\nsomething else\n"
    fake = install(monkeypatch, Fake(programs(), fail={"load": CoreError("load", "no", log)}))
    with pytest.raises(KernelError) as caught:
        run(fake)
    assert str(caught.value) == "running gadget g: no"


def test_many_refused_optional_programs_end_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each the object is loaded again: 4,000 of them would take minutes."""
    names = [f"p{number}" for number in range(4000)]
    fake = install(monkeypatch, Fake(names))
    spec = GadgetSpec("g", {}, programs=[ProgramSpec(n, "raw_tp/x", optional=True) for n in names])
    loads = iter(names)
    original = fake.did

    def did(what: str) -> None:
        original(what)
        if what == "load brief":
            name = next(loads)
            raise CoreError("load", f"program {name} rejected", LOG, name)

    monkeypatch.setattr(fake, "did", did)
    work = VerifierWork()
    made = Loader(b"", spec, LoadParts(), LoadSettings(), lambda _: None, NO_TYPES, work.refused)
    with pytest.raises(LimitError, match="more than 32 optional programs, lastly: program p32 "):
        made.load()
    assert work.instructions() == 33
    assert fake.open_objects == 0


@pytest.mark.parametrize(
    ("parts", "values", "message"),
    [
        (LoadParts({"nosuch": True}), {}, 'no variable "nosuch"'),
        (LoadParts({"on": 256}), {}, "cannot hold 256"),
        (LoadParts(), {"pid": b"1"}, "has 4 bytes, its value 1"),
    ],
)
def test_wrong_constants(
    monkeypatch: pytest.MonkeyPatch, parts: LoadParts, values: dict[str, bytes], message: str
) -> None:
    fake = install(monkeypatch, Fake(programs()))
    with pytest.raises(ObjectError, match=message):
        run(fake, parts, values=values)
    assert fake.open_objects == 0


@pytest.mark.parametrize("entries", [0, 1 << 25])
def test_map_sizes_have_bounds(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    install(monkeypatch, Fake(programs()))
    with pytest.raises(UsageError, match="stacks_max_entries"):
        run(Fake(), values={"stacks_max_entries": entries.to_bytes(4, "little")})


def test_attaching_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, Fake(programs()))
    settings = LoadSettings(values={"stacks_max_entries": b"\x01\0\0\0"})
    made = Loader(b"", gadget(), LoadParts(), settings, lambda _text: None, NO_TYPES)
    obj = made.load()

    def check() -> None:
        if "attach tp" in fake.log:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        made.attach(Attacher(obj, gadget(), Host(HostView())), check)
    assert "attach moved" not in fake.log


@pytest.mark.parametrize(
    ("text", "size"), [("8M", 8 << 20), ("64k", 65536), ("1G", 1 << 30), ("4096", 4096),
                       ("8MiB", 8 << 20), ("8mb", 8 << 20)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "1", "2G", "-1", "8X", "1e6", "٨M", "99999999999999"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="--buffer-size"):
        parse_size(text)


def sized(monkeypatch: pytest.MonkeyPatch, spec: GadgetSpec, **settings: object) -> list[str]:
    fake = install(monkeypatch, Fake(["tp"], settings.pop("features", {})))  # type: ignore[arg-type]
    said: list[str] = []
    made = Loader(b"", spec, LoadParts(), LoadSettings(**settings), said.append, NO_TYPES)  # type: ignore[arg-type]
    made.load()
    return [line for line in fake.log if "max_entries" in line] + said


def with_maps(*maps: MapSpec, more: tuple[str, ...] = (), **extra: object) -> GadgetSpec:
    """A gadget whose first maps are tracer maps; *more*: those that data sources name."""
    sources = [DataSourceSpec(name, DataSourceType.SINGLE, map=name) for name in more]
    return GadgetSpec(
        "g",
        {},
        datasources=sources,
        programs=[ProgramSpec("tp", "tracepoint/sched/x")],
        maps=list(maps),
        tracer_maps=[m.name for m in maps if m.name not in more],
        **extra,  # type: ignore[arg-type]
    )


def ring(name: str, size: int) -> MapSpec:
    return MapSpec(name, RINGBUF, 0, 0, size)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("declared", "flag", "size"),
    [
        (16 * MIB, None, 16 * MIB),
        (256 << 10, None, 8 * MIB),
        (16 * MIB, 8 * MIB, 8 * MIB),
        (16 * MIB, 64 << 10, 64 << 10),
        (256 << 10, 32 * MIB, 32 * MIB),
        (10 * MIB, None, 16 * MIB),  # No power of two: what the kernel takes that holds it.
        (0, None, 8 * MIB),
        (1 << 30, None, 1 << 30),
    ],
)
def test_the_larger_ring_wins_unless_the_flag_is_given(
    monkeypatch: pytest.MonkeyPatch, declared: int, flag: int | None, size: int
) -> None:
    done = sized(monkeypatch, with_maps(ring("events", declared)), buffer_size=flag)
    assert done == [f"set_max_entries events {size}"]


def test_each_ring_has_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that only a data source names, without the macro."""
    maps = (ring("a", 16 * MIB), ring("b", 4096), ring("c", 32 * MIB), ring("private", 4096))
    spec = with_maps(*maps, more=("c", "private"))
    spec.datasources.pop()
    assert sized(monkeypatch, spec) == [
        f"set_max_entries a {16 * MIB}",
        f"set_max_entries b {8 * MIB}",
        f"set_max_entries c {32 * MIB}",
    ]


@pytest.mark.parametrize("declared", [(1 << 30) + 1, 1 << 31, (1 << 32) - 1])
def test_a_gadget_cannot_declare_any_size(monkeypatch: pytest.MonkeyPatch, declared: int) -> None:
    with pytest.raises(LimitError, match=r"more than 1024 MiB together .*--buffer-size"):
        sized(monkeypatch, with_maps(ring("events", declared)))
    many = with_maps(*(ring(f"r{n}", 256 * MIB) for n in range(5)))
    with pytest.raises(LimitError, match="r0, r1, r2, r3, r4"):
        sized(monkeypatch, many)
    assert len(sized(monkeypatch, many, buffer_size=4096)) == 5


def test_perf_buffers_are_as_large_as_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Fake(["tp"], {"ringbuf": False}))
    spec = with_maps(ring("events", 16 * MIB), MapSpec("own", PERF_EVENT_ARRAY, 4, 4, 2))
    made = Loader(b"", spec, LoadParts(), LoadSettings(), lambda _: None, NO_TYPES)
    made.load()
    assert made.sizes.buffers == {"events": 16 * MIB, "own": 8 * MIB}


def test_a_variable_sizes_a_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = VariableSpec("events_max_entries", ".rodata", 0, 4)
    values = {"events_max_entries": (64 << 10).to_bytes(4, "little")}
    spec = with_maps(ring("events", 4096), variables=[variable])
    assert sized(monkeypatch, spec, values=values) == ["set_max_entries events 65536"]
    flag = sized(monkeypatch, spec, values=values, buffer_size=4096)
    assert flag == ["set_max_entries events 4096"]


def test_without_memory_for_the_default_the_declared_size_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = install(monkeypatch, Fake(["tp"]))
    loads = 0

    def did(what: str) -> None:
        nonlocal loads
        fake.log.append(what)
        loads += what == "load brief"
        if what == "load brief" and loads == 1:
            raise CoreError("memory", "map events", "")

    monkeypatch.setattr(fake, "did", did)
    said: list[str] = []
    Loader(
        b"", with_maps(ring("events", 4096)), LoadParts(), LoadSettings(), said.append, NO_TYPES
    ).load()
    sizes = [line for line in fake.log if "max_entries" in line]
    assert sizes == [f"set_max_entries events {8 * MIB}", "set_max_entries events 4096"]
    assert ["no memory for event maps of 8 MiB" in line for line in said] == [True]


def test_memory_for_what_was_asked_is_not_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Fake(["tp"], fail={"load": CoreError("memory", "map events", "")}))
    for settings in (LoadSettings(buffer_size=16 * MIB), LoadSettings()):
        spec = with_maps(ring("events", 16 * MIB))
        with pytest.raises(KernelError, match="RLIMIT_MEMLOCK"):
            Loader(b"", spec, LoadParts(), settings, lambda _: None, NO_TYPES).load()


def test_ring_sizes() -> None:
    assert ring_size(1) == 4096
    assert ring_size(4097) == 8192
    assert ring_size(8 << 20) == 8 << 20


@pytest.mark.parametrize("where", ["probe kprobe", "probe ringbuf", "load", "attach kp"])
@pytest.mark.parametrize(
    ("kind", "remedy"), [("descriptors", "ulimit -n"), ("memory", "ulimit -l")]
)
def test_what_is_used_up_is_no_fault_of_an_optional_program(
    monkeypatch: pytest.MonkeyPatch, where: str, kind: str, remedy: str
) -> None:
    fake = install(monkeypatch, Fake(programs()))
    fake.fail[where] = CoreError(kind, "too many open files")  # type: ignore[arg-type]
    with pytest.raises(KernelError) as caught:
        run(fake)
    assert not isinstance(caught.value, VerifierRejected)
    assert "too many open files" in caught.value.message
    assert "this kernel has no" not in str(caught.value)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("text, size", [("64M", 64 << 20), ("2MiB", 2 << 20), ("1024G", 1 << 40)])
def test_memory_limits(text: str, size: int) -> None:
    assert parse_memory_limit(text) == size
    queue, backlog = divided(size)
    assert queue + backlog == size
    assert 256 << 10 <= queue <= 8 << 20
    assert backlog > size * 3 / 4


@pytest.mark.parametrize("text", ["", "0", "1M", "2047K", "1025G", "-5M", "64 M", "much"])
def test_memory_limits_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r'"--memory-limit" flag: expected a size from 2048K to'):
        parse_memory_limit(text)
