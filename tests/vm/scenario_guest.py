"""The guest runs the requested kernel."""

import os
import platform


def test_guest_runs_the_kernel_that_was_asked_for() -> None:
    assert platform.release().startswith(os.environ["IG_PY_VM"] + ".")
