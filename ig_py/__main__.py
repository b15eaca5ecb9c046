"""``python -m ig_py`` is the ``ig-py`` command."""

from __future__ import annotations

import sys

from ig_py.cli import main

if __name__ == "__main__":
    sys.exit(main())
