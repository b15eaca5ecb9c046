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
_START_SECONDS = 1.0
"""Longest wait for a process that is being started when it is to be ended."""

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
    tool = _Tool(argv, attempt, cwd, env)
    try:
        process = tool.started()
        raw, _ = process.communicate(timeout=timeout_s)
    except BaseException as e:
        tool.kill()
        if isinstance(e, subprocess.TimeoutExpired):
            raise BuildError(f"{attempt}: {argv[0]} ran for more than {timeout_s:g} s") from None
        raise
    finally:
        tool.forget()
    output = raw[:MAX_OUTPUT].decode(errors="replace")
    if process.returncode:
        raise ToolFailed(attempt, argv, process.returncode, output)
    return output


class _Tool:
    """The process of one tool.

    A thread of its own starts it. Handlers of signals raise in the main thread only, so nothing
    can come between the start of the process and its entry in the list that :func:`kill_all` reads.
    """

    def __init__(
        self, argv: Sequence[str], attempt: str, cwd: Path | None, env: Mapping[str, str]
    ) -> None:
        self._argv = argv
        self._attempt = attempt
        self._cwd = cwd
        self._env = clean_environment(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: BuildError | None = None
        self._settled = threading.Event()

    def started(self) -> subprocess.Popen[bytes]:
        """Start the process; once.

        Raises:
            BuildError: It cannot be started, or every tool is being ended.
        """
        threading.Thread(target=self._start, name="ig-py-tool", daemon=True).start()
        self._settled.wait()
        if self._process is None:
            raise self._failure or BuildError(f"{self._attempt}: {self._argv[0]} did not start")
        return self._process

    def _start(self) -> None:
        try:
            with _starting:
                if _ending:
                    self._failure = BuildError(f"{self._attempt}: interrupted")
                    return
                self._process = subprocess.Popen(
                    self._argv,
                    cwd=self._cwd,
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                _running.add(self._process)
        except (OSError, ValueError) as e:
            why = e.strerror if isinstance(e, OSError) and e.strerror else e
            self._failure = BuildError(f"{self._attempt}: starting {self._argv[0]}: {why}")
        finally:
            self._settled.set()

    def kill(self) -> None:
        """End the process and its children, also when its start was interrupted."""
        self._settled.wait(_START_SECONDS)
        if self._process is not None:
            _kill(self._process)
            self._process.wait()

    def forget(self) -> None:
        if self._process is not None:
            _running.discard(self._process)


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
    """End every tool that runs right now, or is being started."""
    waited = _starting.acquire(timeout=_START_SECONDS)
    try:
        for process in list(_running):
            _kill(process)
    finally:
        if waited:
            _starting.release()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
