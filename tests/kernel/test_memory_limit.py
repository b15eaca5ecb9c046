"""Events wait in memory while their reader does not read, within ``--memory-limit``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bench_load import bench_load
from support.root_gadget import image_tar
from support.running_gadget import IG_PY, RUNNING
from support.waiting import SLOWNESS, deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "ringbuf", "tracepoint", "clang"),
    pytest.mark.timeout(600),
]

CHECKOUT = Path(__file__).resolve().parents[2]
UID = 100_000 + os.getpid() % 900_000
OPENS = 60_000
"""In the ring buffer are 9,600 of them, in 8 MiB of JSON 11,000."""
RATE = 20_000 // SLOWNESS
PATH = "/dev/null"
ACCOUNT = re.compile(r"^open: (\d+) events emitted, (\d+) lost$", re.MULTILINE)


@pytest.fixture(scope="module")
def load() -> Iterator[str]:
    with bench_load() as path:
        yield path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image"), CHECKOUT / "tests/gadgets/trace_open"))


class Stalled:
    """A run whose reader reads nothing until :meth:`finish`."""

    def __init__(self, directory: Path, image: str, *flags: str) -> None:
        self._err = directory / "err"
        self._read, write = os.pipe()
        argv = [IG_PY, "run", image, "--verify-image=false", "--host", f"--uid={UID}"]
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*argv, "-o", "json", "-v", *flags], stdout=write, stderr=err
            )
        os.close(write)

    def __enter__(self) -> Stalled:
        wait_for(lambda: RUNNING in self.err, "it runs", deadline(60))
        return self

    def __exit__(self, *_args: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def peak(self) -> int:
        """Bytes of resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    def finish(self, wanted: int) -> tuple[list[str], int, int]:
        """The names that the events have, and the numbers of the account."""
        names: list[str] = []
        with os.fdopen(self._read, "rb") as file:
            for line in file:
                if (event := json.loads(line))["fname"] == PATH:
                    names.append(event["fname"])
                if len(names) == wanted:
                    self.process.send_signal(signal.SIGINT)
                    wanted = -1
        self.process.wait(deadline(60))
        account = ACCOUNT.search(self.err)
        assert account is not None, self.err
        return names, int(account[1]), int(account[2])


def opens(load: str, count: int) -> None:
    argv = [load, "open", str(count), str(RATE), str(UID), "1", PATH]
    done = subprocess.run(argv, check=True, capture_output=True, timeout=deadline(120))
    assert json.loads(done.stdout)["produced"] == count


def test_all_that_fits_is_shown_later(tmp_path: Path, image: str, load: str) -> None:
    with Stalled(tmp_path, image) as run:
        opens(load, OPENS)
        names, emitted, lost = run.finish(OPENS)
    assert (len(names), emitted, lost) == (OPENS, OPENS, 0)


def test_loss_beyond_the_limit_is_exact_and_told_at_once(
    tmp_path: Path, image: str, load: str
) -> None:
    with Stalled(tmp_path, image, "--memory-limit", "2M", "--fail-on-loss") as run:
        opens(load, OPENS)
        wait_for(lambda: '"type":"loss"' in run.err, "the loss is told", deadline(30))
        peak = run.peak
        run.process.send_signal(signal.SIGINT)
        names, emitted, lost = run.finish(-1)
        assert run.process.returncode == 3
    assert emitted == len(names) > 0
    assert emitted + lost == OPENS
    assert lost > OPENS / 4
    assert peak < 80 << 20


def test_a_value_that_is_none(image: str) -> None:
    argv = [IG_PY, "run", image, "--verify-image=false", "--memory-limit", "1K"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=deadline(60))
    assert done.returncode == 1
    assert '"--memory-limit" flag: expected a size' in done.stderr
