"""The whole story on one machine: build, sign, push, remove, pull, verify, trace one container.

Everything that this starts it ends again: an engine where none was there, a registry, two
containers, the tracer. Its store and its keys are its own, and go with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
from support import busybox, start_signal, tracer
from support.engine import Engine, any_engine
from support.processes import StartError, end
from support.registry import docker_registry
from support.waiting import wait_for

if TYPE_CHECKING:
    from docker.models.containers import Container

ROOT = Path(__file__).resolve().parents[1]
IG_PY = ROOT / ".venv/bin/ig-py"
# trace_exec attaches four tracepoints everywhere and one kprobe where the kernel has them.
LINKS = 4
BYE = "bye"
PIPE = f"{start_signal.INSIDE}/pipe"
DEMO = f"/bin/id; /bin/ls /; /bin/cat /etc/passwd; /bin/echo {BYE}; read word <{PIPE}"
NOISE = "/bin/uname -a; /bin/true; /bin/echo noise"
COMMAND_SECONDS = 300
LABEL = "io.ig-py.demo"


class DemoError(Exception):
    """The demo did not show what it promises."""


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def ig_py(*arguments: str) -> None:
    """Run one ig-py command, shown as typed."""
    say(f"ig-py {' '.join(arguments)}")
    done = subprocess.run([IG_PY, *arguments], cwd=ROOT, timeout=COMMAND_SECONDS, stdout=2)
    if done.returncode:
        raise DemoError(f"ig-py {arguments[0]} {arguments[1]} ended with {done.returncode}")


def build_and_travel(reference: str, registry: str, key: Path) -> None:
    """Into the registry and back, with nothing left here in between."""
    insecure = f"--insecure-registries={registry}"
    ig_py("image", "generate-key-pair", f"--output-key-prefix={key}")
    ig_py("image", "build", ".", "-t", reference)
    ig_py("image", "sign", reference, f"--key={key}.key")
    ig_py("image", "push", reference, insecure)
    ig_py("image", "remove", reference)
    ig_py("image", "prune")
    ig_py("image", "pull", reference, insecure)
    ig_py("image", "verify", reference, f"--public-keys={key}.pub")


def clear_names(client: docker.DockerClient) -> None:
    """Remove what a killed demo left; the user's own containers are not touched."""
    for container in client.containers.list(all=True, ignore_removed=True):
        if container.name not in ("demo", "noise"):
            continue
        if LABEL not in container.labels:
            raise DemoError(f"there is a container {container.name!r} that is not the demo's")
        container.remove(force=True)


@contextmanager
def waiting_container(
    client: docker.DockerClient, image: str, name: str, commands: str, directory: Path
) -> Iterator[Container]:
    """A container that runs *commands* when told to, and is removed afterwards."""
    container = client.containers.create(
        image,
        start_signal.waiting_command(commands),
        name=name,
        labels=[LABEL],
        network_mode="none",
        volumes=start_signal.make(directory),
    )
    try:
        container.start()
        yield container
    finally:
        container.remove(force=True)


class Tracer:
    """``ig-py run`` with its events passed on and kept."""

    def __init__(self, reference: str, key: Path, engine: Engine, output: Path) -> None:
        self._output = output
        argv = [
            *("run", reference, "-c", "demo", "-o", "json"),
            *("--runtimes=docker", f"--docker-socketpath={engine.socket}"),
            # The pulled image must be the signed one; --pull=never makes no further request.
            *(f"--public-keys={key}.pub", "--pull=never"),
        ]
        say(f"ig-py {' '.join(argv)}")
        with output.open("wb") as sink:
            self._process = subprocess.Popen([IG_PY, *argv], stdin=subprocess.DEVNULL, stdout=sink)

    def watches(self, container_pid: int) -> bool:
        """Are its programs attached, and does their filter let that process's container through?"""
        self._check()
        pid = self._process.pid
        return tracer.links(pid) >= LINKS and tracer.admits(pid, container_pid)

    def lines(self) -> list[str]:
        self._check()
        text = self._output.read_text()
        return text[: text.rfind("\n") + 1].splitlines()

    def _check(self) -> None:
        if self._process.poll() is not None:
            raise DemoError(f"ig-py run ended early with {self._process.returncode}")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(COMMAND_SECONDS)
        if status:
            raise DemoError(f"ig-py run ended with {status}")

    def close(self) -> None:
        end(self._process)


def seen_bye(lines: list[str]) -> bool:
    return any(BYE in json.loads(line)["args"] for line in lines)


def check(events: list[dict[str, Any]]) -> None:
    """Only demo's events, all of them, in order."""
    strangers = {event["runtime"]["containerName"] for event in events} - {"demo"}
    if strangers:
        raise DemoError(f"events of others than demo: {', '.join(map(repr, sorted(strangers)))}")
    found = [event["args"].replace("\N{NO-BREAK SPACE}", " ") for event in events]
    wanted = [command.strip() for command in DEMO.split(";") if command.strip().startswith("/")]
    if found[: len(wanted)] != wanted:
        raise DemoError(f"demo executed {wanted}, the events say {found}")


def trace(reference: str, key: Path, engine: Engine, work: Path) -> int:
    """Trace demo while noise and the host execute too; the number of events."""
    with ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(engine.client()))
        clear_names(client)
        image = busybox.import_image(client, "ig-py-demo:local")
        stack.callback(client.images.remove, image, force=True)
        say("starting the containers demo and noise: both wait for a go before their first exec")
        demo = stack.enter_context(waiting_container(client, image, "demo", DEMO, work / "demo"))
        demo.reload()
        noise = stack.enter_context(
            waiting_container(client, image, "noise", NOISE, work / "noise")
        )
        run = Tracer(reference, key, engine, work / "events.json")
        stack.callback(run.close)
        first = demo.attrs["State"]["Pid"]
        wait_for(lambda: run.watches(first), "ig-py watches the container demo", 60)
        start_signal.send(work / "noise")
        subprocess.run(["true"], check=True, timeout=COMMAND_SECONDS)
        if noise.wait(timeout=60)["StatusCode"]:
            raise DemoError("noise failed")
        start_signal.send(work / "demo")
        wait_for(lambda: seen_bye(run.lines()), "the last event of demo", 30)
        lines = run.lines()
        print("\n".join(lines), flush=True)
        run.stop()
    check([json.loads(line) for line in lines])
    return len(lines)


def main() -> int:
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ig-py-demo-")))
        try:
            engine = stack.enter_context(any_engine(work / "engine"))
            say(f"Docker engine: {'started here' if engine.ours else 'found'}, {engine.socket}")
            registry = stack.enter_context(docker_registry(work / "registry"))
            say(f"registry: {registry}")
            reference = f"{registry}/trace_exec:demo"
            key = work / "key"
            os.environ["COSIGN_PASSWORD"] = secrets.token_hex()
            os.environ["IG_PY_STORE"] = str(work / "store")
            build_and_travel(reference, registry, key)
            events = trace(reference, key, engine, work)
        except (
            DemoError,
            StartError,
            busybox.NoBusybox,
            docker.errors.DockerException,
            subprocess.TimeoutExpired,
            OSError,
        ) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    say(f"{events} events of demo, none of noise, none of the host; everything is stopped")
    return 0


if __name__ == "__main__":
    # SIGTERM unwinds like Ctrl-C, so that nothing stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
