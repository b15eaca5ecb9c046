"""Random plans and random samples for them, biased towards what breaks renderers."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

from support.core_plans import PlanMaker
from support.reference import World, is_array
from support.reference_names import PROTOCOLS, SYSCALLS

INTEGERS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8}
WIDTHS = INTEGERS | {"bool": 1, "f32": 4, "f64": 8}
MAX_SAMPLE = 96
MAX_COLUMN = 30
LAYOUTS = [
    None,
    "2006-01-02 15:04:05",
    "Mon Jan _2 15:04:05.000 2006",
    "02/01/06 03:04PM -0700",
    "Monday, 2 January 2006, 3:04:05 pm Z0700",
    "2006-002T15:04:05.999999999-07:00",
]
PATTERNS = [
    "a", "^a", "b$", ".", "^.$", "^..$", "^$", "[0-9]+", "(?i)SH", "é", "^[^a-z]", "x|y", "\ufffd",
]  # fmt: skip
HOSTILE = [
    b"", b"sh", b"ENOENT", b'q"\\/', b"\x1b[2J\x1b]0;x\x07", b"\xff\xfe", b"\xe2\x82", b"\xf0\x9f",
    b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", "é\xa0日本😀".encode(), b"\r\n\t\x0b\x7f",
    "\u202egnp.exe\u2069\u200b".encode(), "\u2028\u2029\x85\x9b".encode(), b"- a: [b, {c", b"null",
    b"1e3", b"0x1F", b"~", b"'", b" lead", b"trail ", b"a\n\n", b"\ta", "\ufeffbom".encode(),
    "e\u0301\U000e0001\ue000\U0010ffff".encode(), bytes(range(1, 33)), bytes(range(120, 168)),
    b"\xfc\x80\x80\x80", b"ab\0cd", b"---", b"...", b"#x", b"2026-11-23", b"=", b"<<", b"0o7",
]  # fmt: skip
DOUBLES = [
    0.0, -0.0, 1.5, 0.1, 1e-6, 9.999e-7, 1e21, 9.99e20, 5e-324, 2.2250738585072014e-308, 2.5, 0.5,
    1.7976931348623157e308, float("inf"), -float("inf"), float("nan"), 123456789.125, -3.25, 1e20,
    131072.000244140625, 2.0**-24,
]  # fmt: skip

_FLOATS = {"f32": ("<f", st.floats(width=32)), "f64": ("<d", st.floats(width=64))}


class Case:
    """A plan, samples for it, and the lookups and container values of the pipeline."""

    def __init__(self, maker: PlanMaker) -> None:
        self.maker = maker
        self.samples: list[bytes] = []
        self.world = World()

    def __repr__(self) -> str:
        return f"{self.maker.text()}\n{self.samples}\n{self.world}"


texts = st.one_of(
    st.sampled_from(HOSTILE), st.binary(max_size=24), st.text(max_size=8).map(lambda t: _utf8(t))
)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    near = st.integers(max(low, -140), min(high, 140))
    return st.one_of(near, st.integers(low, high), st.sampled_from([low, high, high // 2]))


def _raw(draw: st.DrawFn, kind: str, size: int) -> bytes:
    if kind in INTEGERS:
        number = draw(_integers(size * 8, kind.startswith("i")))
        return number.to_bytes(size, "little", signed=number < 0)
    if kind in ("f32", "f64"):
        code, floats = _FLOATS[kind]
        value = draw(st.one_of(st.sampled_from(DOUBLES), floats))
        try:
            return struct.pack(code, value)
        except OverflowError:
            return struct.pack(code, float("inf"))
    if kind == "bool":
        return bytes([draw(st.sampled_from([0, 1]))])
    return draw(texts)[:size].ljust(size, b"\0")


class _Builder:
    def __init__(self, draw: st.DrawFn, names: st.SearchStrategy[str]) -> None:
        self.draw = draw
        self.names = names
        self.size = draw(st.integers(0, MAX_SAMPLE))
        self.case = Case(PlanMaker(self.size))
        self.maker = self.case.maker
        self.containers: list[int] = []
        self.rewritten: list[tuple[int, int]] = []
        """Byte ranges that a timestamp writes to: nothing else lies there."""

    def name(self) -> str:
        return f"{self.draw(self.names)}{len(self.maker.fields)}"

    def parent(self) -> int | None:
        return self.draw(st.sampled_from([None, *self.containers]))

    def common(self) -> dict[str, Any]:
        return {"json": self.draw(st.integers(0, 9)) > 0}

    def place(self, size: int, alone: bool = False) -> int | None:
        """An offset for *size* bytes; None when there is no room."""
        if size > self.size:
            return None
        start = self.draw(st.integers(0, self.size - size))
        taken = self.rewritten
        if alone:
            taken = [
                (f["offset"], f["offset"] + f["size"])
                for f in self.maker.fields
                if not f.get("slot")
            ]
        if any(start < end and begin < start + size for begin, end in taken):
            return None
        if alone:
            self.rewritten.append((start, start + size))
        return start

    def container(self) -> None:
        size = self.draw(st.integers(0, self.size))
        offset = self.draw(st.integers(0, self.size - size))
        made = self.maker.field(
            self.name(), "container", offset, size, self.parent(), **self.common()
        )
        self.containers.append(made)

    def integer(self, kinds: list[str], alone: bool = False) -> int | None:
        kind = self.draw(st.sampled_from(kinds))
        offset = self.place(WIDTHS[kind], alone)
        if offset is None:
            return None
        return self.maker.field(
            self.name(), kind, offset, WIDTHS[kind], self.parent(), **self.common()
        )

    def value(self) -> None:
        kind = self.draw(st.sampled_from([*WIDTHS, "char", "bytes"]))
        more = self.common()
        count = 1
        if self.draw(st.integers(0, 3)) == 0:
            count = self.draw(st.integers(0, 4))
            more |= {"array": True}
        step = WIDTHS.get(kind) or self.draw(st.integers(1, 12))
        offset = self.place(step * count)
        if offset is None:
            return
        if kind in INTEGERS and not more.get("array") and self.draw(st.booleans()):
            bits = self.draw(st.integers(1, step * 8))
            more |= {"bits": bits, "bit_offset": self.draw(st.integers(0, step * 8 - bits))}
        self.maker.field(
            self.name(), kind, offset, step * count, self.parent(), count=count, **more
        )

    def text_slot(self) -> int:
        return self.maker.slot(self.name(), self.parent(), **self.common())

    def step(self) -> None:
        others = ("l3endpoint", "l4endpoint", "container", "text")
        op = self.draw(st.sampled_from([*_STEP_KINDS, *others]))
        if op == "text":
            value = self.draw(st.text(max_size=6))
            self.maker.step(op, dst=self.text_slot(), value=value)
        elif op in ("l3endpoint", "l4endpoint"):
            self.endpoint(op)
        elif op == "container":
            self.enrichment()
        else:
            src = self.integer(_STEP_KINDS[op], alone=op == "timestamp")
            if src is None:
                return
            keys: dict[str, Any] = {"src": src, "dst": self.text_slot()}
            if op == "timestamp":
                keys["layout"] = self.draw(st.sampled_from(LAYOUTS))
                if self.draw(st.integers(0, 4)) == 0:
                    keys["dst"] = None
            if op == "enum":
                keys |= self.enumerators()
            self.maker.step(op, **keys)

    def enumerators(self) -> dict[str, Any]:
        number = st.one_of(st.integers(-4, 20), st.sampled_from([2**63, 2**64 - 1, 2**32, 128]))
        pair = st.tuples(number, st.one_of(st.text(max_size=6), st.sampled_from(["RED", "O_X"])))
        keys: dict[str, Any] = {
            "values": [list(p) for p in self.draw(st.lists(pair, max_size=6))],
            "set": self.draw(st.booleans()),
        }
        if self.draw(st.booleans()):
            keys["separator"] = self.draw(st.sampled_from(["|", ", ", "", "\n", "\u202e"]))
        return keys

    def endpoint(self, op: str) -> None:
        at, version = self.place(16), self.integer(["u8", "u16", "u32"])
        if at is None or version is None:
            return
        raw = self.maker.field(self.name(), "container", at, 16, self.parent(), json=False)
        keys: dict[str, Any] = {"version": version, "addr_raw": raw, "addr": self.text_slot()}
        if op == "l4endpoint":
            port, proto_raw = self.integer(["u16"]), self.integer(["u16", "u8"])
            if port is None or proto_raw is None:
                return
            keys["port"] = port
            if self.draw(st.booleans()):
                keys |= {"proto_raw": proto_raw, "proto": self.text_slot()}
            if self.draw(st.booleans()):
                keys["endpoint"] = self.text_slot()
        self.maker.step(op, **keys)

    def enrichment(self) -> None:
        mntns, netns = self.integer(["u64"]), self.integer(["u32", "u64"])
        if mntns is None or netns is None:
            return
        fields = {
            "k8s.podName": self.text_slot(),
            "k8s.namespace": self.text_slot(),
            "runtime.containerName": self.text_slot(),
            "k8s.hostnetwork": self.maker.slot(self.name(), self.parent(), "bool"),
            "runtime.containerPid": self.maker.slot(self.name(), None, "u32", size=4),
        }
        self.maker.step("container", mntns=mntns, netns=netns, fields=fields)

    def worlds(self) -> None:
        names = st.dictionaries(st.integers(0, 140), st.text(max_size=6), max_size=4)
        self.case.world.users, self.case.world.groups = self.draw(names), self.draw(names)
        for _ in range(self.draw(st.integers(0, 3))):
            given: dict[str, str | int | bool] = {
                "runtime.containerName": self.draw(st.text(max_size=6)),
                "runtime.containerPid": self.draw(st.integers(0, 2**32 - 1)),
            }
            if self.draw(st.booleans()):
                given |= {"k8s.podName": "pod", "k8s.namespace": "ns"}
            if self.draw(st.integers(0, 3)) == 0:
                given["k8s.hostnetwork"] = True
            mntns = self.draw(st.integers(1, 4))
            self.case.world.containers.pop(mntns, None)
            self.case.world.containers[mntns] = (self.draw(st.integers(1, 3)), given)
        self.maker.document["clock_offset_ns"] = self.draw(
            st.sampled_from([0, 1_795_400_000_000_000_000, 1, 123_456_789])
        )
        minutes = self.draw(st.sampled_from([0, 60, -210, 345, 840, -720]))
        self.maker.document["timezone_offset_s"] = minutes * 60

    def filters(self) -> None:
        able = [
            f
            for f in self.maker.fields
            if not is_array(f) and f["kind"] not in ("bytes", "container")
        ]
        for _ in range(self.draw(st.sampled_from([0, 0, 1, 2]))):
            if able:
                self.rule(self.draw(st.sampled_from(able)))

    def rule(self, spec: dict[str, Any]) -> None:
        kind = spec["kind"]
        ops = ["==", "=", "!="]
        if kind == "bool":
            value = self.draw(st.sampled_from(["true", "false", "0", "1"]))
        elif kind in ("char", "str"):
            ops += ["<", "<=", ">", ">=", "~", "!~"]
            value = self.draw(st.one_of(st.sampled_from(["", "a", "sh", "ENOENT"]), st.text()))
        else:
            ops += ["<", "<=", ">", ">="]
            if kind in INTEGERS:
                width = spec.get("bits") or INTEGERS[kind] * 8
                value = str(self.draw(_integers(width, kind.startswith("i"))))
            else:
                finite = [v for v in DOUBLES if abs(v) < 1e30]
                value = repr(self.draw(st.sampled_from(finite)))
        op = self.draw(st.sampled_from(ops))
        if "~" in op:
            value = self.draw(st.sampled_from(PATTERNS))
        self.maker.filter(spec["id"], op, value)

    def columns(self) -> None:
        made = []
        for _ in range(self.draw(st.integers(0, 6))):
            spec = self.draw(st.sampled_from(self.maker.fields))
            made.append(
                {
                    "field": spec["id"],
                    "width": self.draw(st.integers(-1, MAX_COLUMN)),
                    "align": self.draw(st.sampled_from(["left", "right"])),
                    "ellipsis": self.draw(st.sampled_from(["end", "start", "middle", "none"])),
                    "hex": self.draw(st.booleans()),
                    "precision": self.draw(st.integers(0, 9)),
                }
            )
        self.maker.mode("columns", columns=made)

    def samples(self) -> None:
        for _ in range(self.draw(st.integers(1, 3))):
            sample = bytearray(self.draw(st.binary(min_size=self.size, max_size=self.size)))
            for spec in self.maker.fields:
                if spec.get("slot") or self.draw(st.integers(0, 4)) == 0:
                    continue
                self.fill(sample, spec)
            longer = self.draw(st.sampled_from([0, 0, 0, 1, 40]))
            shorter = self.draw(st.sampled_from([0, 0, 0, 1, 5, MAX_SAMPLE]))
            self.case.samples.append(bytes(sample[: max(0, self.size - shorter)]) + b"x" * longer)

    def fill(self, sample: bytearray, spec: dict[str, Any]) -> None:
        kind, count = spec["kind"], spec["count"]
        if kind == "container" or count == 0:
            return
        step = spec["size"] // count
        for i in range(count):
            start = spec["offset"] + i * step
            sample[start : start + step] = _raw(self.draw, kind, step)


_STEP_KINDS: dict[str, list[str]] = {
    "timestamp": ["u64", "i64"],
    "errno": ["u32", "u16", "u8", "i32"],
    "signal": ["u32", "u8", "i32"],
    "user": ["u32"],
    "group": ["u32"],
    "enum": [*INTEGERS, "bool"],
    "bytes": ["u64", "u32", "u8"],
    "duration": ["u64", "u32"],
    "file_mode": ["u32", "u16"],
    "file_flags": ["u32", "u16"],
    "syscall": ["u64"],
}

PLAIN_NAMES = st.sampled_from(["a", "B", "pid", "x_y", "Z"])
_HOSTILE_NAMES = st.one_of(PLAIN_NAMES, texts.map(lambda raw: raw.decode("utf-8", "replace")))


def _known(spec: dict[str, Any], draw: st.DrawFn, numbers: list[int]) -> bytes:
    return int(draw(st.sampled_from(numbers))).to_bytes(spec["size"], "little")


def _put(case: Case, number: int, raw: bytes) -> None:
    start = case.maker.fields[number]["offset"]
    for i, sample in enumerate(case.samples):
        if len(sample) >= start + len(raw):
            case.samples[i] = sample[:start] + raw + sample[start + len(raw) :]


def _some_time(case: Case) -> None:
    """A boot time of 0 is shown as the time of now: nothing to compare with."""
    for step in case.maker.datasource["steps"]:
        if step["op"] == "timestamp":
            start = case.maker.fields[step["src"]]["offset"]
            for i, sample in enumerate(case.samples):
                if not any(sample[start : start + 8]):
                    case.samples[i] = (
                        sample[:start].ljust(start, b"\0") + b"\1" + sample[start + 1 :]
                    )


def _known_numbers(draw: st.DrawFn, case: Case) -> None:
    """Tables of the reference are samples: their inputs must be numbers that it knows about."""
    for step in case.maker.datasource["steps"]:
        if step["op"] == "syscall":
            spec = case.maker.fields[step["src"]]
            _put(case, spec["id"], _known(spec, draw, [*SYSCALLS, 1 << 40, 5000]))
        if step.get("version") is not None:
            spec = case.maker.fields[step["version"]]
            _put(case, spec["id"], _known(spec, draw, [4, 4, 6, 6, 0, 9]))
        if step.get("proto_raw") is not None:
            spec = case.maker.fields[step["proto_raw"]]
            numbers = [*PROTOCOLS, 146, 250, 252] + ([256, 65535] if spec["size"] > 1 else [])
            _put(case, spec["id"], _known(spec, draw, numbers))


@st.composite
def cases(draw: st.DrawFn, mode: str, names: st.SearchStrategy[str] = _HOSTILE_NAMES) -> Case:
    """A case whose plan renders in *mode*."""
    builder = _Builder(draw, names)
    for _ in range(draw(st.integers(0, 3))):
        builder.container()
    for _ in range(draw(st.integers(0, 8))):
        builder.value()
    for _ in range(draw(st.integers(0, 5))):
        builder.step()
    builder.worlds()
    builder.filters()
    if mode == "columns":
        if not builder.maker.fields:
            builder.text_slot()
        builder.columns()
    else:
        builder.maker.mode(mode)
    if draw(st.integers(0, 4)) == 0:
        builder.maker.datasource["min_size"] = draw(st.integers(0, builder.size))
    builder.samples()
    _known_numbers(draw, builder.case)
    _some_time(builder.case)
    return builder.case
