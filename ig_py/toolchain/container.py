"""Building in a container of a builder image (docs/building.md#compiler).

The image brings clang, llvm-strip, ``/usr/include/gadget/<arch>/vmlinux.h`` and, for wasm
sources, go or cargo. The eBPF API and libbpf headers come from this ig-py, so that both
kinds of build compile against the same ones. Every step is an argument list run by the
engine; no shell is involved. The engine is driven by the ``docker`` package, which knows where
engines listen (``DOCKER_HOST``) and how they pull, create, run and remove.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from ig_py.errors import BuildError, UsageError
from ig_py.host.files import HostReadError, read_text
from ig_py.records import dataclass
from ig_py.toolchain import headers, wasm
from ig_py.toolchain.buildfile import BuildFile
from ig_py.toolchain.compile import ARCHITECTURES, CODE, MULTIARCH, TARGET_ARCH
from ig_py.toolchain.options import BuildOptions, Built
from ig_py.toolchain.process import ToolFailed

PULL_POLICIES = ("always", "missing", "never")
WORK = PurePosixPath("/work")
OUT = PurePosixPath("/out")
API = PurePosixPath("/ig-py/include")
VMLINUX = PurePosixPath("/usr/include/gadget")
LABEL = "io.ig-py.build"
"""Of the containers made here; its value names the process that made one."""
MAX_OUTPUT = 256 * 1024


def object_argvs(source: str, arch: str) -> list[list[str]]:
    """The commands that make one architecture's object inside the container."""
    output = str(OUT / f"{arch}.bpf.o")
    return [
        [
            "clang",
            *CODE,
            # The image has the engine's architecture; clang ignores directories that do not exist.
            *(f"-I/usr/include/{triplet}" for triplet in MULTIARCH.values()),
            "-D",
            f"__TARGET_ARCH_{TARGET_ARCH[arch]}",
            "-fno-crash-diagnostics",
            "-fdebug-compilation-dir=.",
            f"-ffile-prefix-map={WORK}=.",
            f"-ffile-prefix-map={API}=/usr/include",
            "-c",
            source,
            "-I",
            str(API),
            "-I",
            str(VMLINUX / arch),
            "-o",
            output,
        ],
        ["llvm-strip", "-g", output],
    ]


def build_in_container(options: BuildOptions, root: Path, file: BuildFile, scratch: Path) -> Built:
    """Run the build's steps in a container that is removed in any case.

    Raises:
        BuildError: There is no engine or image, or a step fails.
        UsageError: ``--btfgen`` is given, which needs a local build.
    """
    if options.btfgen:
        raise UsageError(
            "building with --btfgen: it is not supported with --builder-image",
            remedy="leave out one of them",
        )
    objects: dict[str, Path] = {}
    module: Path | None = None
    steps: list[tuple[str, list[str], Mapping[str, str]]] = []
    if file.ebpf_source is not None:
        for arch in ARCHITECTURES:
            objects[arch] = scratch / f"{arch}.bpf.o"
            attempt = f"compiling {file.ebpf_source} for {arch}"
            steps += [(attempt, argv, {}) for argv in object_argvs(file.ebpf_source, arch)]
    if file.wasm is not None:
        module, more = _wasm_steps(root, file.wasm, scratch)
        steps += [(f"building {file.wasm}", argv, env) for argv, env in more]
    if steps:
        # Only this user, who is the container's user too, may write here.
        scratch.chmod(0o700)
        fetches = file.wasm is not None and file.wasm.endswith((".go", ".rs"))
        network = "default" if fetches else "none"
        with _container(options, root, scratch, network) as container:
            for attempt, argv, env in steps:
                options.debug(" ".join(argv))
                output = _exec(container, attempt, argv, env)
                if output.strip() and argv[0] == "clang" and ARCHITECTURES[0] in argv[-1]:
                    options.log(output)
    for path in objects.values():
        if not path.is_file():
            raise BuildError(f"building {root}: the builder image left no {path.name}")
    return Built(objects, module, {})


def _wasm_steps(
    root: Path, source: str, scratch: Path
) -> tuple[Path, list[tuple[list[str], Mapping[str, str]]]]:
    path = root / source
    output = scratch / wasm.OUTPUT
    inside = WORK / source
    if path.suffix == ".wasm":
        return path, []
    if path.suffix == ".go":
        argv = wasm.go_argv(str(inside.parent), str(OUT / wasm.OUTPUT), inside.name)
        return output, [(argv, wasm.GO_ENVIRONMENT)]
    if path.suffix == ".c":
        argv = wasm.c_argv("clang", source, str(OUT / wasm.OUTPUT), str(API), str(WORK))
        # clang keeps the object there that it gives to the linker; an image need not have /tmp.
        return output, [(argv, {"TMPDIR": str(OUT)})]
    manifest = wasm.cargo_manifest(source)
    product = wasm.cargo_product(root, manifest)
    built = OUT / wasm.RUST_TARGET / "release" / f"{product}.wasm"
    moved = {str(OUT): "/target", str(WORK): "."}
    return output, [
        (wasm.cargo_argv(str(WORK / manifest), moved), {"CARGO_TARGET_DIR": str(OUT)}),
        (["cp", str(built), str(OUT / wasm.OUTPUT)], {}),
    ]


@contextmanager
def _container(options: BuildOptions, root: Path, scratch: Path, network: str) -> Iterator[Any]:
    import docker
    from docker.errors import DockerException

    image = options.builder_image
    assert image is not None
    attempt = f"building in a container of {image}"
    try:
        client = docker.from_env()
    except DockerException as e:
        raise BuildError(
            f"{attempt}: no container engine: {_reason(e)}",
            remedy="start Docker, or install clang and build without --builder-image",
        ) from None
    container = None
    try:
        _sweep(client)
        _provide(client, image, options.builder_image_pull, options.log)
        container = client.containers.create(
            image,
            ["sleep", "inf"],
            entrypoint=[],
            volumes={
                str(root): {"bind": str(WORK), "mode": "rw"},
                str(scratch): {"bind": str(OUT), "mode": "rw"},
                str(headers.include_dir()): {"bind": str(API), "mode": "ro"},
            },
            user=None if _rootless(client) else f"{os.getuid()}:{os.getgid()}",
            working_dir=str(WORK),
            labels={LABEL: _Owner.this().label()},
            # Only builds of Go and Rust download dependencies.
            network_mode=network,
        )
        container.start()
        yield container
    except DockerException as e:
        raise BuildError(f"{attempt}: {_reason(e)}") from None
    finally:
        try:
            if container is not None:
                container.remove(force=True, v=True)
        except DockerException as e:
            options.log(f"Removing the build container failed: {_reason(e)}")
        client.close()


@dataclass(frozen=True)
class _Owner:
    """The process that a build container belongs to, as one of all machines that use its engine."""

    boot_id: str
    uid: int
    pidns: int
    pid: int
    started: int

    @classmethod
    def this(cls) -> _Owner:
        boot_id = read_text("/proc/sys/kernel/random/boot_id").strip()
        pidns = Path("/proc/self/ns/pid").stat().st_ino
        return cls(boot_id, os.getuid(), pidns, os.getpid(), _started(os.getpid()))

    def label(self) -> str:
        return f"{self.boot_id}/{self.uid}/{self.pidns}/{self.pid}/{self.started}"

    @classmethod
    def parse(cls, label: str) -> _Owner | None:
        boot_id, *numbers = label.split("/")
        if len(numbers) != 4 or not all(n.isascii() and n.isdigit() for n in numbers):
            return None
        return cls(boot_id, *map(int, numbers))

    def ended(self) -> bool:
        """Is it known to be a process of this user and this machine that has ended?"""
        here = self.this()
        ours = (self.boot_id, self.uid, self.pidns) == (here.boot_id, here.uid, here.pidns)
        try:
            return ours and _started(self.pid) != self.started
        except HostReadError:
            return False


def _started(pid: int) -> int:
    """Start time of a process in clock ticks since boot; -1 when there is none."""
    stat = read_text(f"/proc/{pid}/stat")
    if not stat:
        return -1
    # Behind the name, which may have spaces and brackets, from field 3 on.
    return int(stat.rpartition(")")[2].split()[19])


def _sweep(client: Any) -> None:
    """Remove build containers of processes that were killed."""
    for container in client.containers.list(all=True, filters={"label": LABEL}):
        owner = _Owner.parse(container.labels.get(LABEL, ""))
        if owner is not None and owner.ended():
            container.remove(force=True, v=True)


def _provide(client: Any, image: str, policy: str, log: Callable[[str], None]) -> None:
    from docker.errors import ImageNotFound

    if policy not in PULL_POLICIES:
        raise UsageError(
            f"invalid value for --builder-image-pull: {policy}. "
            f"Valid values are {','.join(PULL_POLICIES)}"
        )
    if policy != "always":
        try:
            client.images.get(image)
            return
        except ImageNotFound:
            if policy == "never":
                raise BuildError(
                    f"building in a container: image {image} is not available locally "
                    "and pull is disabled"
                ) from None
    log(f"Pulling builder image {image}")
    client.images.pull(image)


def _rootless(client: Any) -> bool:
    options = client.info().get("SecurityOptions") or []
    return any("name=rootless" in str(option) for option in options)


def _exec(container: Any, attempt: str, argv: Sequence[str], env: Mapping[str, str]) -> str:
    code, raw = container.exec_run(list(argv), environment=dict(env), workdir=str(WORK))
    output = bytes(raw or b"")[:MAX_OUTPUT].decode(errors="replace")
    if code != 0:
        raise ToolFailed(attempt, argv, int(code or 0), output)
    return output


def _reason(error: Exception) -> str:
    explanation = getattr(error, "explanation", None)
    return " ".join(str(explanation or error).split())
