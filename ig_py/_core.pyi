"""The interface of the native core (crate ``core/``).

Every method that waits or works long releases the GIL. Every method raises
:class:`CoreError` and no other exception, unless it says so.
"""

from collections.abc import Callable, Mapping, Sequence, Set
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
    "WasmGuest",
    "WasmModule",
    "Writer",
    "btf_to_c",
    "btf_with_struct",
    "exec_hold_refusal",
    "find_libraries",
    "headers",
    "interfaces_into",
    "libbpf_version",
    "link_news",
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
    "descriptors",
    "btf",
    "plan",
    "unsupported",
    "closed",
    "wasm",
]
"""``absent``: there is nothing to attach to; ``memory``: the kernel refuses it for a map or
its buffers; ``descriptors``: too many files are open, in this process or in the system;
``closed``: the object has been closed;
``wasm``: a wasm module is not valid, or failed."""

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
    """Events that a filter dropped: they are neither emitted nor lost."""
    malformed: int
    """Samples shorter than the plan's ``min_size``; part of *lost* unless that is None."""
    unidentified: int
    """Samples dropped because their namespace was not identified in time; part of *lost* unless
    that is None."""
    lost: int | None
    """Events lost (kernel counter, perf lost records, malformed and unidentified samples); None
    when the object counts no losses."""
    lost_others: int
    """Events that the kernel lost of mount namespaces that are not selected; no part of *lost*."""
    lost_unidentified: int
    """Events that the kernel lost of mount namespaces of which it is not known whether they are
    selected; no part of *lost*. They become *lost* or *lost_others* when it is known."""

def libbpf_version() -> str:
    """Version of the libbpf inside the core, e.g. ``v1.7``."""

def headers() -> dict[str, bytes]:
    """C headers compiled into the core: ``bpf/*.h`` of its libbpf and the
    eBPF API ``gadget/*.h``; path below an include directory -> content."""

def sockets_object() -> bytes:
    """The eBPF object that keeps the map of sockets' owners (core/sockets, docs/sockets.md)."""

def btf_to_c(btf: bytes) -> str:
    """C declarations of every type of a raw BTF blob, in dependency order
    (the body of a vmlinux.h, without guard and pragmas)."""

def btf_with_struct(
    btf: bytes, name: str, size: int, members: Sequence[tuple[str, int, int, int]]
) -> bytes:
    """Raw BTF with one struct more. *members*: (name, offset, bytes of the integer, number of
    elements; 0 for no array)."""

def pattern_refusal(pattern: str) -> str | None:
    """Why *pattern* is not valid as a filter's regular expression; None when it is."""

def probe(feature: str) -> bool:
    """True when the running kernel has the feature: ``ringbuf``, ``kprobe``, ``tracepoint``,
    ``raw_tracepoint``, ``fentry``, ``lsm``, ``iter``, ``uprobe``, ``btf``,
    ``boot_ns``, ``kprobe_multi``, ``uprobe_multi``, ``run_stats``. It is found by using the
    feature, never by the kernel's version.

    Raises:
        CoreError: ``unsupported`` for an unknown name. ``descriptors`` or ``memory`` when too
            little is left to find out; also for EPERM of bpf(2), which tells of a limit of
            locked memory or of a missing right.
    """

@final
class Map:
    """A BPF map that is not part of an object."""

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
    """Paths of library *name* (``libssl``) below the directory descriptor *root*: those in its
    ld.so.cache, else those in the usual directories.

    Raises:
        CoreError: ``open`` for a damaged cache.
    """

def interfaces_into(host: int, container: int) -> list[int]:
    """Indexes of the interfaces of network namespace *host* (descriptor) whose other end is an
    interface of *container* that is up.

    Raises:
        CoreError: ``open`` when they cannot be listed.
    """

def link_news(container: int) -> int:
    """A netlink socket in network namespace *container* (descriptor), which the caller closes. It
    does not block, and is readable when an interface has come, changed or gone.

    Raises:
        CoreError: ``open`` when it cannot be made.
    """

@final
class Binary:
    """An open regular file below a container's root. No link leads out of the root."""

    def __new__(cls, root: int, path: str) -> Self:
        """*root*: descriptor of a directory.

        Raises:
            CoreError: ``open`` when *path* is no regular file.
        """
    @property
    def identity(self) -> tuple[int, ...]:
        """Equal for two containers' paths to one inode, also through different overlay mounts.
        Valid as long as this object or an attachment to it exists."""

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
        """Replaces the part of the section name after the first ``/``."""
    def set_data(self, section: str, offset: int, data: bytes) -> None:
        """Write initial bytes of ``.rodata``/``.data``/``.bss`` (bounds checked)."""
    def data(self, section: str, offset: int, size: int) -> bytes:
        """The present content of a data section of the loaded object (bounds checked)."""
    def set_map_type(self, map: str, type: int, key_size: int, value_size: int) -> None: ...
    def set_max_entries(self, map: str, max_entries: int) -> None: ...
    def reuse_map(self, map: str, other: Map) -> None: ...
    def load(self, *, brief: bool = False) -> None:
        """Load the maps and programs into the kernel.

        Args:
            brief: The verifier's log has only why a program is rejected, and how many instructions
                have been processed. Without it, a program that is rejected is verified again, with
                each instruction in the log, which takes ten times as long.

        Raises:
            CoreError: ``verifier`` when the verifier rejects a program: the message names it, and
                *log* is the verifier's log.
        """
    def attach(self, program: str) -> None:
        """Attach one program by its type and target. The object can be used after a failure.

        Raises:
            CoreError: ``attach``, or ``absent`` when there is no such target.
        """
    # The following methods attach a program to a target that its section does not name. The
    # result is the number for :meth:`release`.
    def attach_perf_event(
        self, program: str, type: int, config: int, *, frequency: int = 0, period: int = 0
    ) -> int:
        """Sample perf event (*type*, *config*) on every online CPU, *frequency* times a second or
        once per *period* events."""
    def attach_cgroup(self, program: str, path: str) -> int:
        """Attach a ``cgroup/*`` or ``sockops`` program to a cgroup2 directory."""
    def attach_xdp(self, program: str, ifindex: int) -> int: ...
    def attach_sockmap(self, program: str, map: str) -> int:
        """Attach an ``sk_skb`` or ``sk_msg`` program to a map of sockets of this object."""
    def attach_socket(self, program: str, netns: int, netns_id: int) -> int:
        """Attach a socket filter to every packet of the network namespace with descriptor *netns*.
        The program finds *netns_id* in ``skb->cb[0]``."""
    def attach_interface(
        self, program: str, netns: int, ifindex: int, *, ingress: bool, netns_id: int
    ) -> int:
        """Attach a classifier to one direction of interface *ifindex* of namespace *netns*. The
        program finds *netns_id* in ``skb->cb[0]``."""
    def attach_binary(self, program: str, binary: Binary, target: str) -> int:
        """Attach a program to one file, in every process that maps it. *target* is
        ``FUNCTION[+OFFSET]`` for ``uprobe`` and ``uretprobe``, a pattern of functions for their
        ``.multi`` kinds, ``PROVIDER:NAME`` for ``usdt``.

        Raises:
            CoreError: ``absent`` when the file has no such function or probe.
        """
    def release(self, attachment: int) -> bool:
        """End one attachment; False when it has ended already. May take some 100 ms, while others
        can be attached."""
    def iterate(
        self,
        program: str,
        *,
        map: str | None = None,
        netns: int | None = None,
        pid: int = 0,
        limit: int = 268435456,
    ) -> bytes:
        """Run the loaded ``iter/…`` program once and return all that it writes. Other threads may
        use the object meanwhile.

        *map*: the object's map whose elements ``iter/bpf_map_elem`` walks. *netns*: descriptor of
        the network namespace to run in (``iter/tcp``, ``iter/udp``). *pid*: walk this process only
        (``iter/task*``; 0: all).

        Raises:
            CoreError: ``memory`` when it writes more than *limit* bytes.
        """
    def detach(self) -> None:
        """Detach every program. Maps and streams stay, so that every event that was written can be
        drained and counted. Idempotent."""
    def map_ids(self) -> list[int]: ...
    def program_ids(self) -> list[int]: ...
    def stream(
        self, plan: str, guest: WasmGuest | None = None, filter: Map | None = None
    ) -> Stream:
        """Open the readers of every tracer map named in *plan* (see docs/plan.md), and
        the iterator programs; those need no :meth:`attach`. Call after load and
        before attach. *guest* has the callbacks among the plan's steps, and may use the object's
        maps from now on; *filter*: the map of mount namespaces that are wanted (None: all are)."""
    def close(self) -> None:
        """Detach and unload everything; idempotent."""

@final
class Batch:
    """What one drain rendered."""

    datasource: str
    data: bytes
    """Rendered bytes, ready to write (empty in mode ``none``)."""
    events: int
    def whole_events(self, written: int) -> int:
        """Events that the first *written* bytes of *data* show whole: of an array in JSON all
        or none, as it is one document."""
    def rows(self) -> list[dict[str, Any]]:
        """The events as JSON-like objects, materialised on call. Available
        only when the plan's data source has ``"keep": true``."""

@final
class Writer:
    """A thread that writes batches to the open file descriptor *fd*, a queue of at most *limit*
    bytes before it, and exact counts of the events that were not written.

    *on_broken* is called once, in that thread, when the reader has gone or the disk is full.
    *continuous*: data sources whose batches mean nothing without those before: after one was given
    up, so are all that follow.

    Raises:
        CoreError: The thread cannot be started.
        ValueError: *fd* is negative.
    """

    def __new__(
        cls,
        fd: int,
        on_broken: Callable[[], object],
        *,
        limit: int,
        continuous: Set[str],
    ) -> Self: ...
    @property
    def broken(self) -> OSError | None:
        """Why nothing can be written any more."""
    def __call__(self, batch: Batch) -> None:
        """Queue *batch*, as :meth:`Stream.pump` does; waits while the queue is full."""
    def put_text(self, datasource: str, text: bytes) -> None:
        """Queue *text*, which shows no event."""
    def limit_waits(self, seconds: float) -> None:
        """From now on a full queue waits for its reader for *seconds* at most, at this end."""
    def written(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds until all that is queued is written; True when it is, or
        when nothing more can be written."""
    def lost(self) -> dict[str, int]:
        """Events given up so far, by data source."""
    def close(self, timeout: float) -> dict[str, int]:
        """Write what is queued, at most *timeout* seconds; events never written, by data source. Of
        a batch that is cut, events that were written whole are not lost."""

@final
class Stream:
    """The data plane of one run: drains, decodes, enriches, filters, formats and renders events."""

    def pump(
        self,
        sink: Writer | Callable[[Batch], None],
        timeout_ms: int | None,
        *,
        busy_ms: int | None = None,
    ) -> int:
        """Drain into *sink* until *timeout_ms* is over (0: drain once, a bounded amount; None:
        without a limit), *busy_ms* after the first event, or until another thread or a signal ends
        the wait; the number of batches. Under steady load a drain takes what gathers in at most
        40 ms for a terminal and 90 ms for another file; the first event after a pause, and events
        that are rare (64 a second; 32 for a regular file) wait for nothing. While a
        :class:`Writer` has no room, and when a buffer of the kernel fills faster than events are
        rendered, samples are copied into memory, as many as the plan allows; with *timeout_ms* 0,
        room is waited for. With a :class:`Writer`, no Python runs. What *sink* raises ends the
        call."""
    def push(self, datasource: str, samples: Sequence[bytes]) -> Batch:
        """Run samples through the pipeline without a kernel (tests, replay)."""
    def read_array(self, datasource: str, netns: Sequence[int] = ()) -> tuple[Batch, str]:
        """Read an array data source once: empty its map, or run its iterator programs. Programs
        that show one network namespace run once in each of *netns* (open descriptors).

        Returns the array, and what failed ("" for nothing): then the array has the elements that
        were read until the failure. Other threads may use the stream meanwhile."""
    def released_array(self, datasource: str) -> Batch | None:
        """An array of the elements that were taken out of a map before their container was
        identified, and that no :meth:`read_array` has shown since; None when there are none."""
    def take_ended(self, datasource: str, mntns: Sequence[int]) -> str:
        """Take the rows of mount namespaces that have ended, or are not wanted, out of a map, with
        their containers' names: the next array shows them. Nothing else may have these numbers
        meanwhile. What failed; "" when nothing did."""
    def end_rows(self, mntns: int, generation: int) -> None:
        """No more rows of a mount namespace will come: it has ended, or is not wanted (generation
        0: the one that has the number now). When the number is announced again before its rows are
        taken, rows with it are lost."""
    def set_container(self, mntns: int, netns: int, values: Mapping[str, str | int | bool]) -> None:
        """Events of *mntns* get *values*: full field name (``runtime.containerName``)
        -> value. Replaces an earlier entry of the same mntns."""
    def end_container(self, mntns: int) -> None:
        """The container has ended: from now on running containers come first when its network
        namespace is looked up."""
    def drop_container(self, mntns: int) -> None: ...
    def set_names(self, users: Mapping[int, str], groups: Mapping[int, str]) -> None:
        """The host's user and group names (passwd, group)."""
    def admit_by(self, scout: Scout, selective: bool) -> None:
        """From now on samples of namespaces that *scout* reports as new wait for :meth:`decide`, as
        do elements that are taken out of a map. *selective*: only selected containers are wanted,
        so that an iterator's elements of namespaces without a decision are left out."""
    def decide(self, mntns: int, generation: int, verdict: str) -> None:
        """Decide about the samples of a namespace, those that wait and those to come. *verdict*:
        ``keep``, ``reject``, or ``lose`` when it was not identified in time. *generation* 0: the
        namespace that has the inode number now."""
    def decide_ended(
        self,
        mntns: int,
        generation: int,
        verdict: str,
        ended: tuple[int, Mapping[str, str | int | bool]],
        holder: tuple[int, Mapping[str, str | int | bool]],
    ) -> None:
        """As :meth:`decide`, of a container whose namespace had ended before the one that has the
        inode number now. *ended*, *holder*: (netns, values) of the containers of both, as for
        :meth:`set_container`; the later one has been decided about. Events of each have its
        values."""
    def waiting(self) -> int:
        """Samples that wait for a decision, and those that the kernel lost of namespaces that wait
        for one."""
    def end_waiting(self, verdict: str) -> None:
        """Decide about all samples that wait. To be called when no more decisions will come."""
    def metrics(self, datasource: str) -> list[tuple[str, list[int | float | list[int]]]]:
        """Sums since the stream was opened, in order of appearance: (JSON list of key values, the
        metrics' values in the order of the plan; a histogram's slots as a list). Keys "" are all
        combinations beyond 2000."""
    def subscribe(self, datasource: str, callback: int, type: int, behind: str) -> None:
        """From now on the wasm module's *callback* is called behind all ``steps`` of a data source,
        or behind its ``filters``, ``sort`` or ``limit``.
        *type*: 1 for events or elements, 2 for arrays, 3 for events or whole arrays."""
    def undecided(self) -> int:
        """Events that were left out because a condition was undecided."""
    def refused(self) -> int:
        """Events that were left out because an endpoint's version is neither 4 nor 6."""
    def give_up(self) -> int:
        """Count all samples that wait to be rendered, and those in the kernel's buffers, as lost;
        how many."""
    def missing_debuginfo(self) -> list[str]:
        """Build ids of files that debuginfod's cache does not have."""
    def lost_stacks(self) -> int:
        """Stacks that the map did not have any more, or whose process had ended."""
    def counters(self) -> dict[str, Counters]:
        """Data source name -> counters; reads the kernel-side loss counters now."""
    def wake(self) -> None:
        """End the wait of :meth:`pump` in another thread."""
    def close(self) -> None: ...

@final
class ScoutNotice:
    """A new mount namespace (kind 1), or what a process in a pending one did: it was forked (2),
    executed a program (3), ended (4) or was moved to a cgroup (5)."""

    mntns: int
    generation: int
    """Distinguishes the namespace from an earlier one with the same inode number."""
    kind: int
    flags: int
    """1: too many namespaces are pending, and events of this one do not pass yet."""
    pid: int
    """The pid in the scout's pid namespace; 0 when the process has none there."""
    nspid: int
    """The pid in the innermost pid namespace."""
    ppid: int
    cgroup_id: int
    owner: int | None
    """Of kind 1: the user who created it, in a user namespace of their own; None: root did."""
    order: int
    """Position among all notices: of two namespaces with one inode number the later one's is
    larger, which their generations do not tell."""
    comm: bytes
    cgroup: bytes
    """Absolute path in the hierarchy in which it is deepest; empty for kinds 2 and 4."""

@final
class Scout:
    """Reports new mount namespaces, and lets their events pass filter maps until they are decided
    about (docs/discovery.md)."""

    def __new__(cls, pidns: int, max_pending: Sequence[int]) -> Self:
        """Load the eBPF object. *pidns*: inode number of the pid namespace of the reported pids; 0
        for the initial one. *max_pending*: how many namespaces may be pending, root's and those
        that users create.

        Raises:
            CoreError: ``unsupported`` when the kernel's BTF lacks a type or a member.
        """
    def baseline(self, mntns: Sequence[int]) -> None:
        """Namespaces that exist already and are not reported. To be called before
        :meth:`attach`."""
    def baseline_ended(self, mntns: Sequence[int]) -> None:
        """Of these, no process was left after :meth:`attach`: a later namespace with such a number
        is reported. To be called after it."""
    def attach(self) -> None: ...
    def attach_by_tracefs(self) -> None:
        """Attach the programs whose tracepoints are found by tracefs."""
    def add_filter(self, map: Map) -> int:
        """Let pending namespaces pass this filter map. Returns the slot for
        :meth:`remove_filter`."""
    def remove_filter(self, slot: int) -> None: ...
    def withdraw(self, map: Map, mntns: int, generation: int) -> None:
        """Delete *mntns* from a filter map, unless a later namespace has the inode number."""
    def is_superseded(self, mntns: int, generation: int) -> bool:
        """Whether a later namespace has the inode number, read or not."""
    def fileno(self) -> int:
        """Readable when there are notices."""
    def notices(self) -> list[ScoutNotice]:
        """The notices since the last call; never waits. Those about root's namespaces come first,
        in order; then some of those about namespaces of users, and more with the next call."""
    def settle(self, mntns: int, generation: int) -> None:
        """The namespace has been decided about, and is not pending any more."""
    def counts(self) -> dict[str, int]:
        """``admitted`` and ``pending`` namespaces, those that were ``shut`` out, ``missed``
        notices, and how often a filter map was ``full``. ``shut_of_users`` and ``missed_of_users``
        are of namespaces that users created, ``shut`` and ``missed`` of the others."""
    def close(self) -> None:
        """Detach and unload; idempotent."""

@final
class ProgramStatistics:
    """The kernel counts run time and runs of eBPF programs as long as one of these is open."""

    def __new__(cls, count: bool = True) -> Self:
        """Without *count* the kernel is not asked to count (a sysctl may have it count).

        Raises:
            CoreError: ``unsupported`` where BPF_ENABLE_STATS does not exist (before 5.8).
        """
    def read(self) -> tuple[list[tuple[int, int, str, int, int, list[int]]], dict[int, int]]:
        """For every program: its id, ``BPF_PROG_TYPE_*``, name in the kernel (at most 15 bytes),
        run time in ns and runs since it was loaded (while counted), and the ids of its maps. The
        second value is the bytes of memory of each of those maps."""
    def close(self) -> None: ...

@final
class ExecHold:
    """Holds executions of container runtimes (docs/discovery.md). A process of its own answers the
    kernel, so that they go on whatever happens to this process."""

    marked: list[str]
    """The paths that exist."""
    def __new__(cls, paths: Sequence[str], deadline: float) -> Self:
        """*deadline*: seconds, at most 10. An execution for which :meth:`take` is not called within
        a second does not wait longer than that.

        Raises:
            CoreError: ``unsupported`` when the kernel refuses.
        """
    def fileno(self) -> int:
        """Readable when there are requests, or the answering process has ended."""
    @property
    def pid(self) -> int:
        """The pid of the answering process; 0 once closed."""
    def requests(self) -> list[tuple[int, int]]:
        """(number, pid) of each execution that has begun to wait since the last call.

        Raises:
            CoreError: ``closed`` when the answering process has ended: no execution waits.
        """
    def take(self, serial: int) -> None:
        """Hold one execution until its release or the deadline. Nothing happens when it has gone on
        already."""
    def release(self, serial: int) -> None:
        """Let one execution go on. Nothing happens when it has gone on already."""
    def mark(self, path: str) -> None:
        """Hold executions of a file that is new, or has been replaced."""
    def counts(self) -> dict[str, int]:
        """Executions that were ``released``, that ``expired`` at the deadline and that ``passed``
        without waiting; the sum of all waits ``waited`` and the ``longest`` one, in ns."""
    def close(self) -> None:
        """Let all executions go on and end the process; idempotent."""

@final
class ExecWatch:
    """Reports executions of given files, after they have happened.

    Raises:
        OSError: the kernel has no fanotify, or refuses it.
    """

    marked: list[str]
    def __new__(cls, paths: Sequence[str]) -> Self: ...
    def mark(self, path: str) -> bool: ...
    def fileno(self) -> int: ...
    def read(self) -> list[int]:
        """Pids in order; 0 for a process of another pid namespace, -1 where events were lost."""

def exec_hold_refusal() -> str | None:
    """Why executions cannot be held here; None when they can."""

@final
class WasmModule:
    """A validated wasm module.

    Raises:
        CoreError: ``wasm`` when it is malformed, too large, or uses what is not supported.
    """

    def __new__(cls, module: bytes) -> Self: ...
    @property
    def upcalls(self) -> list[str]:
        """Names of the functions that it imports from the module ``ig``, in order."""

@final
class WasmGuest:
    """An instance of *module*, for one run (docs/wasm.md).

    Args:
        params: Values of the module's parameters, by key.
        log_level: Up to which level the module is heard: 0 error, 1 warning, 2 info, 3 debug, 4
            trace.
        callback_ms: Milliseconds after which a callback is ended.

    Raises:
        CoreError: ``wasm`` when it cannot be linked, fails, or is of another version.
    """

    def __new__(
        cls, module: WasmModule, params: Mapping[str, str], log_level: int, callback_ms: int
    ) -> Self: ...
    def declare(self, plan: str) -> None:
        """The data sources as they are declared now: a plan of which only fields are read. Those
        that were declared before keep their fields, and may have more."""
    def call(self, stage: str) -> str:
        """Call the export *stage* (``gadgetInit``, ``gadgetPreStart``, ``gadgetStart``,
        ``gadgetStop``, ``gadgetPostStop``), if there is one. Returns what the module asked for
        since the last call, as JSON: ``datasources``, ``fields``, ``tags``, ``unreferenced``,
        ``subscriptions``, ``config``.

        Raises:
            CoreError: ``wasm`` when it fails.
            ValueError: No stage has that name.
        """
    def open_declarations(self) -> bool:
        """Keep the directory of tracepoints open, where tracefs is mounted for this thread; False
        when it is not."""
    def log(self) -> tuple[list[tuple[int, str]], int]:
        """(level, line) of what the module said since the last call, and how many lines were left
        out."""
    def statistics(self) -> tuple[int, int]:
        """How many callbacks were due, and how many of them failed: their events passed
        unchanged."""

def pipeline(plan: str, guest: WasmGuest | None = None) -> Stream:
    """A stream without readers: samples come from :meth:`Stream.push`, and from the callbacks of
    *guest*."""
