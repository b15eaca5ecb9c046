"""The contract of the native core (crate ``core/``). Python decides, Rust does.

Every method that waits or works long releases the GIL. Every method raises
:class:`CoreError` and nothing else, except where said.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias, TypedDict, final, type_check_only

__all__ = [
    "Batch",
    "Binary",
    "CoreError",
    "ExecHold",
    "ExecWatch",
    "Map",
    "Object",
    "ProgramStatistics",
    "Scout",
    "ScoutNotice",
    "Stream",
    "btf_to_c",
    "btf_with_struct",
    "exec_hold_refusal",
    "find_libraries",
    "headers",
    "interfaces_into",
    "libbpf_version",
    "pattern_refusal",
    "pipeline",
    "probe",
    "sockets_object",
]

CoreErrorKind: TypeAlias = Literal[
    "open",
    "load",
    "verifier",
    "attach",
    "absent",
    "map",
    "memory",
    "btf",
    "plan",
    "unsupported",
    "closed",
]
"""``absent``: there is nothing to attach to; ``memory``: the kernel refuses it for a map or
its buffers; ``closed``: the object has been closed."""

class CoreError(Exception):
    """A failure inside the core; ``str()`` of it is its *message*."""

    kind: CoreErrorKind
    message: str
    log: str
    """What libbpf and the verifier wrote; may be empty."""
    program: str
    """Name of the program that does not load; empty when the failure is about none."""
    def __init__(
        self, kind: CoreErrorKind, message: str, log: str = "", program: str = ""
    ) -> None: ...

@type_check_only
class ProgramInfo(TypedDict):
    name: str
    section: str
    type: str
    """libbpf's name of the program type, e.g. ``tracepoint``, ``kprobe``."""
    insn_count: int

@type_check_only
class MapInfo(TypedDict):
    name: str
    type: int
    """BPF_MAP_TYPE_* number."""
    key_size: int
    value_size: int
    max_entries: int

@type_check_only
class Counters(TypedDict):
    """Cumulative since :meth:`Object.stream`; never reset."""

    received: int
    """Samples taken from the kernel."""
    emitted: int
    """Events handed out in batches."""
    discarded: int
    """Events a filter dropped: they are neither emitted nor lost."""
    malformed: int
    """Samples shorter than the plan's ``min_size``; part of *lost* where that is known."""
    unidentified: int
    """Samples lost since nobody could tell in time whose they were; part of *lost* likewise."""
    lost: int | None
    """Events lost (kernel counter, perf lost records, malformed samples);
    None when the object counts nothing ("not measurable")."""

def libbpf_version() -> str:
    """Version of the libbpf inside the core, e.g. ``v1.7``."""

def headers() -> dict[str, bytes]:
    """C headers compiled into the core: ``bpf/*.h`` of its libbpf and the
    eBPF API ``gadget/*.h``; path below an include directory -> content."""

def sockets_object() -> bytes:
    """The object that keeps the map of sockets' owners (core/sockets, docs/sockets.md)."""

def btf_to_c(btf: bytes) -> str:
    """C declarations of every type of a raw BTF blob, in dependency order
    (the body of a vmlinux.h, without guard and pragmas)."""

def btf_with_struct(
    btf: bytes, name: str, size: int, members: Sequence[tuple[str, int, int, int]]
) -> bytes:
    """Raw BTF with one struct more: members are (name, offset, width of a number, elements;
    0 for no array)."""

def pattern_refusal(pattern: str) -> str | None:
    """Why filters cannot take *pattern* as a regular expression; None: they can."""

def probe(feature: str) -> bool:
    """Ask the running kernel: ``ringbuf``, ``kprobe``, ``tracepoint``,
    ``raw_tracepoint``, ``fentry``, ``lsm``, ``iter``, ``uprobe``, ``btf``,
    ``boot_ns``, ``kprobe_multi``, ``uprobe_multi``, ``run_stats``. Probes by doing, never by
    version. ``unsupported`` for an unknown name."""

@final
class Map:
    """A BPF map of its own (not part of an object)."""

    @staticmethod
    def create(name: str, type: int, key_size: int, value_size: int, max_entries: int) -> Map: ...
    def update(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> bool:
        """False when the key was absent."""
    def lookup(self, key: bytes) -> bytes | None: ...
    def keys(self) -> list[bytes]: ...
    @property
    def id(self) -> int:
        """Kernel id (for leak tests)."""
    def close(self) -> None: ...

def find_libraries(root: int, name: str) -> list[str]:
    """Paths of library *name* (``libssl``) below the directory descriptor *root*: what
    its ld.so.cache says, else files in the usual places. ``open`` for a damaged cache."""

def interfaces_into(host: int, container: int) -> list[int]:
    """Indexes of the interfaces of network namespace *host* (descriptor) whose other end
    is one of *container* that is up. ``open`` when they cannot be listed."""

@final
class Binary:
    """A regular file below a container's root, held open. No link leads out of the root."""

    def __new__(cls, root: int, path: str) -> Self:
        """*root*: descriptor of a directory. ``open`` when it is no regular file."""
    @property
    def identity(self) -> tuple[int, ...]:
        """Equal for two containers' paths to one inode (of whatever overlay), for as
        long as this object or an attachment holds it."""

@final
class Object:
    """One BPF object: open -> configure -> load -> attach -> stream -> close.

    Nothing touches the kernel before :meth:`load`.
    """

    def __new__(cls, elf: bytes, name: str, types: bytes | None = None) -> Self:
        """*types*: raw BTF to relocate against instead of the running kernel's."""
    def programs(self) -> list[ProgramInfo]: ...
    def maps(self) -> list[MapInfo]: ...
    def set_autoload(self, program: str, load: bool) -> None: ...
    def set_attach_target(self, program: str, target: str) -> None:
        """Overrides the part of the section name after the first ``/``."""
    def set_data(self, section: str, offset: int, data: bytes) -> None:
        """Write initial bytes of ``.rodata``/``.data``/``.bss`` (bounds checked)."""
    def data(self, section: str, offset: int, size: int) -> bytes:
        """What a data section of the loaded object holds now (bounds checked)."""
    def set_map_type(self, map: str, type: int, key_size: int, value_size: int) -> None: ...
    def set_max_entries(self, map: str, max_entries: int) -> None: ...
    def reuse_map(self, map: str, other: Map) -> None: ...
    def load(self) -> None:
        """``verifier`` with the whole log and the program's name in the
        message when a program is rejected."""
    def attach(self, program: str) -> None:
        """Attach one program by its type and target; ``attach`` on failure,
        the object stays usable (the caller decides about optional ones)."""
    # What follows attaches a program once more, in a place that its section does not say;
    # the number is for :meth:`release`.
    def attach_perf_event(
        self, program: str, type: int, config: int, *, frequency: int = 0, period: int = 0
    ) -> int:
        """Sample perf event (*type*, *config*) on every online CPU, *frequency* times a
        second, or once in *period* events."""
    def attach_cgroup(self, program: str, path: str) -> int:
        """``cgroup/*`` and ``sockops`` programs to a cgroup2 directory."""
    def attach_xdp(self, program: str, ifindex: int) -> int: ...
    def attach_sockmap(self, program: str, map: str) -> int:
        """``sk_skb`` and ``sk_msg`` programs to a map of sockets of this object."""
    def attach_socket(self, program: str, netns: int, netns_id: int) -> int:
        """A socket filter to every packet of the network namespace with descriptor
        *netns*; the program finds *netns_id* in ``skb->cb[0]``."""
    def attach_interface(
        self, program: str, netns: int, ifindex: int, *, ingress: bool, netns_id: int
    ) -> int:
        """A classifier to one direction of interface *ifindex* of namespace *netns*;
        the program finds *netns_id* in ``skb->cb[0]``."""
    def attach_binary(self, program: str, binary: Binary, target: str) -> int:
        """``uprobe``, ``uretprobe`` (``FUNCTION[+OFFSET]``), their ``.multi`` kinds (a
        pattern of functions) and ``usdt`` (``PROVIDER:NAME``) to one file, in every
        process that maps it. ``absent`` when the file has no such place."""
    def release(self, attachment: int) -> bool:
        """End one attachment; False when it has ended already."""
    def iterate(
        self,
        program: str,
        *,
        map: str | None = None,
        netns: int | None = None,
        pid: int = 0,
        limit: int = 268435456,
    ) -> bytes:
        """Run the loaded ``iter/…`` program once and return all that it writes.

        *map*: the object's map whose elements ``iter/bpf_map_elem`` walks. *netns*:
        descriptor of the network namespace to run in (``iter/tcp``, ``iter/udp``).
        *pid*: walk this process only (``iter/task*``; 0: all). ``memory`` when it
        writes more than *limit* bytes. Does not hold the object: others may use it
        meanwhile."""
    def detach(self) -> None:
        """Detach every program; maps and streams stay, so that what was written can
        be drained and counted to the last event. Idempotent."""
    def map_ids(self) -> list[int]: ...
    def program_ids(self) -> list[int]: ...
    def stream(self, plan: str) -> Stream:
        """Open the readers of every tracer map named in *plan* (see docs/plan.md), and
        the iterator programs; those need no :meth:`attach`. Call after load and
        before attach."""
    def close(self) -> None:
        """Detach and unload everything; idempotent."""

@final
class Batch:
    """What one drain rendered."""

    datasource: str
    data: bytes
    """Rendered bytes, ready to write (empty in mode ``none``)."""
    events: int
    def rows(self) -> list[dict[str, Any]]:
        """The events as JSON-like objects, materialised on call. Available
        only when the plan's data source has ``"keep": true``."""

@final
class Stream:
    """The data plane of one run: drain, decode, enrich, filter, format, render."""

    def next_batches(self, timeout_ms: int) -> list[Batch]:
        """Wait at most *timeout_ms* (0: only what is there) and drain; the
        GIL is released. At most a bounded amount a call."""
    def push(self, datasource: str, samples: Sequence[bytes]) -> Batch:
        """Run samples through the pipeline without a kernel (tests, replay)."""
    def read_array(self, datasource: str, netns: Sequence[int] = ()) -> tuple[Batch, str]:
        """Read an array data source once: empty its map, or run its iterator
        programs (those of a network namespace once in each of *netns*, open descriptors).
        With the array, what went wrong on the way ("" for nothing): what was read
        until then is in the array. Others may use the stream meanwhile."""
    def set_container(self, mntns: int, netns: int, values: Mapping[str, str | int | bool]) -> None:
        """Events of *mntns* get *values*: full field name (``runtime.containerName``)
        -> value. Replaces an earlier entry of the same mntns."""
    def end_container(self, mntns: int) -> None:
        """It ended: from now on living ones come first where its network namespace is shared."""
    def drop_container(self, mntns: int) -> None: ...
    def set_names(self, users: Mapping[int, str], groups: Mapping[int, str]) -> None:
        """The host's user and group names (passwd, group)."""
    def admit_by(self, scout: Scout) -> None:
        """From now on samples of namespaces that *scout* saw begin wait for :meth:`decide`."""
    def decide(self, mntns: int, generation: int, verdict: str) -> None:
        """*verdict* ``keep``, ``reject`` or ``lose`` for samples that waited and those to come;
        *generation* 0: the namespace that has the inode number now."""
    def waiting(self) -> int:
        """Samples that wait for a decision."""
    def end_waiting(self, verdict: str) -> None:
        """Decide about all of them; no more are to come."""
    def metrics(self, datasource: str) -> list[tuple[str, list[int | float | list[int]]]]:
        """Sums since the stream began: (JSON list of key values, the metrics' values in
        plan order; a histogram's slots as a list), in order of appearance. Keys ""
        stands for all combinations beyond 2000."""
    def undecided(self) -> int:
        """Events that were left out since a condition could not be decided."""
    def missing_debuginfo(self) -> list[str]:
        """Build ids of files of which debuginfod's cache has nothing."""
    def lost_stacks(self) -> int:
        """Stacks of events that were not there any more, or whose process was not."""
    def counters(self) -> dict[str, Counters]:
        """Data source name -> counters; reads the kernel-side loss counters now."""
    def wake(self) -> None:
        """Make a waiting :meth:`next_batches` return soon (any thread)."""
    def close(self) -> None: ...

@final
class ScoutNotice:
    """A mount namespace that was not there before (kind 1), or what a process of one that is
    pending did: 2 was forked, 3 executed a program, 4 ended, 5 was moved to a cgroup."""

    mntns: int
    generation: int
    """Tells it from an earlier namespace of the same number."""
    kind: int
    flags: int
    """1: too many are pending, its events do not pass yet."""
    pid: int
    """In the pid namespace that was asked for; 0 when it has none there."""
    nspid: int
    """In the innermost pid namespace."""
    ppid: int
    cgroup_id: int
    comm: bytes
    cgroup: bytes
    """Absolute path in the hierarchy where it is deepest; empty with kinds 2 and 4."""

@final
class Scout:
    """Sees mount namespaces begin and lets them through filter maps meanwhile
    (docs/discovery.md)."""

    def __new__(cls, pidns: int, max_pending: int) -> Self:
        """Loads it. *pidns*: inode number of the pid namespace in which pids are told, 0 for the
        first. ``unsupported`` when the kernel's BTF lacks something."""
    def baseline(self, mntns: Sequence[int]) -> None:
        """Namespaces that are not new; before :meth:`attach`."""
    def attach(self) -> None: ...
    def attach_by_tracefs(self) -> None:
        """The programs whose tracepoints are found by tracefs."""
    def add_filter(self, map: Map) -> int:
        """Pending namespaces pass this filter map; the slot for :meth:`remove_filter`."""
    def remove_filter(self, slot: int) -> None: ...
    def withdraw(self, map: Map, mntns: int, generation: int) -> None:
        """Delete *mntns* from a filter map, unless a later namespace has the number."""
    def fileno(self) -> int:
        """Readable when there are notices."""
    def notices(self) -> list[ScoutNotice]:
        """What came since the last call; never waits."""
    def settle(self, mntns: int, generation: int) -> None:
        """It was decided about: it is pending no longer."""
    def counts(self) -> dict[str, int]:
        """``admitted`` namespaces, ``pending`` ones, ``missed`` notices, ``shut`` out ones,
        ``full`` filter maps met."""
    def close(self) -> None:
        """Detach and unload; idempotent."""

@final
class ProgramStatistics:
    """The kernel counts what eBPF programs take as long as one of these is open."""

    def __new__(cls, count: bool = True) -> Self:
        """``unsupported`` where the kernel does not count for the asking (before 5.8).
        Without *count*, somebody else has it count."""
    def read(self) -> tuple[list[tuple[int, int, str, int, int, list[int]]], dict[int, int]]:
        """Of every program: id, ``BPF_PROG_TYPE_*``, the kernel's name of at most 15 bytes,
        ns that it ran and how often since it was loaded (while counted), ids of its maps.
        And the bytes of each of those maps."""
    def close(self) -> None: ...

@final
class ExecHold:
    """Container runtimes wait when they are executed (docs/discovery.md). The answers come from
    a process of its own, whatever happens to this one."""

    marked: list[str]
    """Those of the paths that are there."""
    def __new__(cls, paths: Sequence[str], deadline: float) -> Self:
        """*deadline* in seconds, at most 0.1. ``unsupported`` when the kernel refuses."""
    def fileno(self) -> int:
        """Readable when there are requests, or the process has ended."""
    @property
    def pid(self) -> int:
        """Of the process that answers; 0 once closed."""
    def requests(self) -> list[tuple[int, int]]:
        """(number, process) of each that has begun to wait; ``closed`` when there is no process
        that answers any more, and so nobody waits."""
    def release(self, serial: int) -> None:
        """Let that one go on; nothing happens when it has already."""
    def mark(self, path: str) -> None:
        """A runtime that has come, or come anew."""
    def counts(self) -> dict[str, int]:
        """``released`` in time, ``expired``, ``passed`` without waiting; how long they ``waited``
        together, and the ``longest`` (ns)."""
    def close(self) -> None:
        """Let everybody go and end the process; idempotent."""

@final
class ExecWatch:
    """Tells of executions of given files, afterwards. :raises OSError: no rights, no fanotify."""

    marked: list[str]
    def __new__(cls, paths: Sequence[str]) -> Self: ...
    def mark(self, path: str) -> bool: ...
    def fileno(self) -> int: ...
    def read(self) -> list[int]:
        """Processes in order; 0 for one of another pid namespace, -1 where some were lost."""

def exec_hold_refusal() -> str | None:
    """Why nobody can be made to wait here; None when that works."""

def pipeline(plan: str) -> Stream:
    """A stream without readers: only :meth:`Stream.push` feeds it."""
