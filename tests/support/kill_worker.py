"""Kill a change to a store: ``kill_worker.py FOLDER OPERATION ARGUMENT STRIDE``.

For every STRIDE-th point right before or right after one of the calls below that the operation
makes there is one child, which SIGKILLs itself there. After each death the store must be
usable. Prints how many died; any surprise is a traceback.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ig_py.oci import walk
from ig_py.oci.archive import import_images
from ig_py.oci.prune import prune
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull
from ig_py.oci.trust.privatekeys import load_private_key
from ig_py.oci.trust.sign import FORMATS, sign
from support.images import image, name

CALLS = ("open", "link", "fchmod", "fsync", "replace", "unlink", "mkdir")


def arm(point: int) -> None:
    """Die at the *point*-th call: odd numbers before it, even ones after."""
    count = 0

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for call in CALLS:
        setattr(os, call, wrapped(getattr(os, call)))


def operation(which: str, argument: str, store: Store) -> None:
    if which == "build":
        store.add(image("new"), name("new:1"))
    elif which == "tag":
        store.tag(name("kept:1"), name("new:1"))
    elif which == "remove":
        store.remove(name("gone:1"))
    elif which == "import":
        import_images(Path(argument), store)
    elif which == "pull":
        host = argument.partition("/")[0]
        pull(normalize(argument), store, RegistryOptions(insecure_registries=(host,)))
    elif which == "sign":
        key = load_private_key(argument, lambda: "")
        sign(normalize(name("kept:1")), store, key, FORMATS)
    elif which == "prune":
        prune(store)


def check(store: Store) -> None:
    """Every listed image is complete, and another image can be stored."""
    names = {i.name for i in store.images()}
    assert name("kept:1") in names
    for stored in store.images():
        for descriptor in walk.walk(store, stored.descriptor).blobs:
            store.read(descriptor)
    store.add(image("after"), name("after:1"))
    left = [p for p in (store.root / "ingest").iterdir()]
    assert left == [], left
    prune(store, now=time.time() + 7 * 24 * 3600)
    alive = walk.reachable(store, store.index().manifests)
    files = {f"{p.parent.name}:{p.name}" for p in (store.root / "blobs").glob("*/*")}
    assert files <= alive, files - alive


def main() -> None:
    folder, which, argument = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    first = Store.open(folder / "first")
    first.add(image("kept"), name("kept:1"))
    first.add(image("gone"), name("gone:1"))
    first.add(image("untagged"), None)
    died, stride = 0, int(sys.argv[4])
    while True:
        root = folder / "store"
        shutil.copytree(first.root, root)
        store = Store.open(root)
        child = os.fork()
        if child == 0:
            arm(died * stride + 1)
            operation(which, argument, store)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        check(store)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        died += 1
        shutil.rmtree(root)
    print(died)


if __name__ == "__main__":
    main()
