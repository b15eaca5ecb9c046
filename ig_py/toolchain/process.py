"""Running the tools of a build: argument lists, a clean environment, nothing left running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ig_py.errors import BuildError
from ig_py.host.scratch import scratch_dir

DEFAULT_TIMEOUT_S = 600
MAX_OUTPUT = 256 * 1024

_running: set[subprocess.Popen[bytes]] = set()
_starting = threading.Lock()
_ending = False

_INHERITED = (
    "CARGO_HOME",
    "GOCACHE",
    "GOMODCACHE",
    "GOPATH",
    "GOPROXY",
    "HOME",
    "PATH",
    "RUSTUP_HOME",
    "SOURCE_DATE_EPOCH",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a tool: what it needs to run, nothing that changes its output.

    Variables such as CPATH or CCC_OVERRIDE_OPTIONS would make builds differ by machine.
    """
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**kept, "LC_ALL": "C.UTF-8", **(extra or {})}


def run(
    argv: Sequence[str],
    attempt: str,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> str:
    """Run *argv* and return what it wrote to stdout and stderr, joined.

    *attempt* (``compiling x for amd64``) starts the message of the BuildError raised when
    the program is missing, fails or takes longer than *timeout_s*; the error's detail is
    the output. Whatever ends the wait also ends the program and its children, and nothing is left
    of their temporary files.
    """
    with scratch_dir() as temporary:
        return _run(argv, attempt, cwd, {"TMPDIR": str(temporary), **(env or {})}, timeout_s)


def _run(
    argv: Sequence[str],
    attempt: str,
    cwd: Path | None,
    env: Mapping[str, str],
    timeout_s: float,
) -> str:
    with _starting:
        if _ending:
            raise BuildError(f"{attempt}: interrupted")
        try:
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=clean_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as e:
            raise BuildError(f"{attempt}: starting {argv[0]}: {e.strerror or e}") from None
        _running.add(process)
    try:
        raw, _ = process.communicate(timeout=timeout_s)
    except BaseException as e:
        _kill(process)
        process.wait()
        if isinstance(e, subprocess.TimeoutExpired):
            raise BuildError(f"{attempt}: {argv[0]} ran for more than {timeout_s:g} s") from None
        raise
    finally:
        _running.discard(process)
    output = raw[:MAX_OUTPUT].decode(errors="replace")
    if process.returncode:
        raise ToolFailed(attempt, argv, process.returncode, output)
    return output


class ToolFailed(BuildError):
    """A tool ended with a status other than 0; *output* is what it wrote."""

    def __init__(self, attempt: str, argv: Sequence[str], status: int, output: str) -> None:
        how = f"exit status {status}" if status >= 0 else f"signal {-status}"
        reason = first_error(output)
        tool = Path(argv[0]).name
        super().__init__(
            f"{attempt}: {reason}" if reason else f"{attempt}: {tool}: {how}",
            detail=f"{' '.join(argv)}\n{how}\n{output}",
        )
        self.output = output


def first_error(output: str) -> str:
    """The line of a tool's output that says why it failed; empty when it wrote nothing."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    if not errors:
        return lines[-1] if lines else ""
    located = [line for line in errors if not line.lower().startswith("error:")]
    first = (located or errors)[0]
    more = len(errors) - 1
    return f"{first} (and {more} more)" if more else first


@contextmanager
def ending() -> Iterator[None]:
    """End every tool that another thread runs; until the block ends none can be started."""
    global _ending
    with _starting:
        _ending = True
    try:
        kill_all()
        yield
    finally:
        _ending = False


def kill_all() -> None:
    """End every tool that runs right now."""
    for process in list(_running):
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
