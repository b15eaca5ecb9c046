"""Work that may wait for ever in the kernel, waited for with a bound."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")


class TooMany(Exception):
    """Threads of the same key, or of all keys, that still wait: no other is started."""


_lock = threading.Lock()
_waiting: Counter[Hashable] = Counter()


def bounded(
    work: Callable[[], T | None],
    deadline_s: float,
    key: Hashable,
    most: int,
    most_all: int | None,
    drop: Callable[[T], None],
) -> T | None:
    """What *work* returns, from a thread that is waited for *deadline_s* seconds.

    The thread is a daemon: it does not keep the process from ending. A system call that waits
    for a FUSE server ends when the process is killed or exits.

    Args:
        work: What may block.
        deadline_s: Seconds to wait.
        key: Whose work this is.
        most: Threads of *key* that may be there at once.
        most_all: Threads of all keys that may be there at once; None for any number.
        drop: Takes what *work* returns after the deadline.

    Raises:
        TimeoutError: It took longer; it goes on in its thread.
        TooMany: It was not started. Besides, what *work* raises.
    """
    results: list[T | None] = []
    failures: list[BaseException] = []
    done = threading.Event()
    late = False

    def run() -> None:
        result: T | None = None
        try:
            result = work()
            results.append(result)
        except BaseException as error:
            failures.append(error)
        with _lock:
            _waiting[key] -= 1
            done.set()
            dropped = late
        if dropped and result is not None:
            drop(result)

    with _lock:
        if _waiting[key] >= most or (most_all is not None and _waiting.total() >= most_all):
            raise TooMany
        _waiting[key] += 1
    thread = threading.Thread(target=run, name="ig-py-read", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        with _lock:
            _waiting[key] -= 1
        raise TooMany from None
    done.wait(deadline_s)
    with _lock:
        late = not done.is_set()
    if late:
        raise TimeoutError
    if failures:
        raise failures[0]
    return results[0]
