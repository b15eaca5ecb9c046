"""One process that hammers a store: ``python store_worker.py STORE NUMBER SECONDS ROLE``.

Roles: ``write`` adds, tags and removes images of its own and shared ones; ``read``
lists and reads every image. Prints the number of rounds; any surprise is a traceback.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ig_py.errors import ImageNotFound
from ig_py.oci import walk
from ig_py.oci.store import Store
from support.images import image, name


def write(store: Store, number: int, rng: random.Random) -> None:
    mine, shared = image(f"own{number}"), image(f"shared{rng.randrange(3)}")
    store.add(mine, name(f"own{number}:1"))
    check(store, name(f"own{number}:1"))
    store.add(shared, name(f"shared:{number}"))
    check(store, name(f"shared:{number}"))
    store.tag(name(f"own{number}:1"), name(f"own{number}:2"))
    for gone in (f"own{number}:1", f"shared:{number}", f"own{number}:2"):
        if gone.endswith(":2"):
            check(store, name(gone))
        store.remove(name(gone))


def check(store: Store, reference: str) -> None:
    """An image that no other process removes must be complete."""
    for descriptor in walk.walk(store, store.resolve(reference)).blobs:
        store.read(descriptor)


def read(store: Store) -> None:
    kept = store.resolve(name("kept:1"))
    for stored in store.images():
        try:
            for descriptor in walk.walk(store, stored.descriptor).blobs:
                store.read(descriptor)
        except ImageNotFound:
            # The image may have been removed since it was listed.
            assert stored.descriptor.digest != kept.digest


def main() -> None:
    path, number, seconds, role = sys.argv[1:]
    store, rng = Store.open(path), random.Random(int(number))
    rounds, end = 0, time.monotonic() + float(seconds)
    while time.monotonic() < end:
        if role == "write":
            write(store, int(number), rng)
        else:
            read(store)
        rounds += 1
    print(rounds)


if __name__ == "__main__":
    main()
