"""Tools of a build: what they see, how they fail, and that they end."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from support.waiting import wait_for

from ig_py.errors import BuildError
from ig_py.toolchain import process


def python(code: str) -> list[str]:
    return [sys.executable, "-P", "-c", code]


def test_output_of_both_streams() -> None:
    code = "import sys; print('a', flush=True); print('b', file=sys.stderr)"
    assert process.run(python(code), "trying") == "a\nb\n"


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPATH", "/evil")
    monkeypatch.setenv("CCC_OVERRIDE_OPTIONS", "#")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    code = "import os; print(sorted(os.environ.items()))"
    output = process.run(python(code), "trying", env={"GOOS": "wasip1"})
    assert "/evil" not in output and "CCC_" not in output
    assert "('SOURCE_DATE_EPOCH', '5')" in output
    assert "('GOOS', 'wasip1')" in output


def test_no_standard_input() -> None:
    assert process.run(python("import sys; print(repr(sys.stdin.read()))"), "trying") == "''\n"


def test_failure_names_attempt_and_first_error() -> None:
    code = "import sys; print('x.c:1:2: error: no'); print('1 error generated.'); sys.exit(3)"
    with pytest.raises(process.ToolFailed) as failure:
        process.run(python(code), "compiling x.c")
    assert str(failure.value) == "compiling x.c: x.c:1:2: error: no"
    assert "exit status 3" in failure.value.detail
    assert "1 error generated." in failure.value.detail


def test_silent_failure() -> None:
    with pytest.raises(BuildError, match=r"^trying: python.*: exit status 1$"):
        process.run(python("raise SystemExit(1)"), "trying")


def test_killed() -> None:
    with pytest.raises(BuildError, match="signal 9"):
        process.run(python("import os; os.kill(os.getpid(), 9)"), "trying")


def test_missing_program() -> None:
    with pytest.raises(BuildError, match=r"^trying: starting /no/such/tool: No such file"):
        process.run(["/no/such/tool"], "trying")


def test_output_that_is_not_text() -> None:
    code = "import os; os.write(1, b'\\xff\\n'); raise SystemExit(1)"
    with pytest.raises(BuildError, match="\ufffd"):
        process.run(python(code), "trying")


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


SPAWNS = (
    "import subprocess, sys, time; "
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print(p.pid, file=open(sys.argv[1], 'w'), flush=True); time.sleep(60)"
)


def test_a_timeout_ends_children_too(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with pytest.raises(BuildError, match="ran for more than 2 s"):
        process.run([*python(SPAWNS), str(file)], "trying", timeout_s=2)
    child = int(file.read_text())
    wait_for(lambda: not alive(child), "the child is gone")


def test_kill_all_ends_processes_of_other_threads(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    failures: list[BaseException] = []

    def work() -> None:
        try:
            process.run([*python(SPAWNS), str(file)], "trying")
        except BuildError as e:
            failures.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: file.exists() and file.read_text().strip(), "the tool runs")
    before = time.monotonic()
    process.kill_all()
    thread.join(10)
    assert time.monotonic() - before < 10
    assert not thread.is_alive()
    assert "signal 9" in str(failures[0])
    child = int(file.read_text())
    wait_for(lambda: not alive(child), "the child is gone")
    assert os.getpid()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", ""),
        ("just this\n\n", "just this"),
        ("In file included from a:\na.h:1:1: error: x\nb.c:2:2: error: y\n",
         "a.h:1:1: error: x (and 1 more)"),
        ("error: unable to create target\n", "error: unable to create target"),
        ("error: linker\na.c:1:1: error: real\n", "a.c:1:1: error: real (and 1 more)"),
        ("warning: w\nfatal error: 'x.h' file not found\n",
         "fatal error: 'x.h' file not found"),
    ],
)  # fmt: skip
def test_first_error(output: str, expected: str) -> None:
    assert process.first_error(output) == expected
