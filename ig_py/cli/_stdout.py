"""What commands write to standard output beside events.

On a terminal no character of a stranger's text acts (:mod:`ig_py.escaping`). JSON stays the
same value to a parser, and so does YAML. Elsewhere bytes are as ``ig`` writes them.
"""

from __future__ import annotations

import sys

from ig_py.escaping import safe, safe_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def write(text: str) -> None:
    """*text* as it is to be in a file."""
    _write(safe(text, multiline=True) if sys.stdout.isatty() else text)


def write_json(text: str) -> None:
    """JSON *text*."""
    _write(safe_json(text) if sys.stdout.isatty() else text)


def write_yaml(value: Any) -> None:
    """*value* as YAML, its keys in their order."""
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if sys.stdout.isatty() and safe(text, multiline=True) != text:
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False)
    _write(text)


def write_lines(*lines: str) -> None:
    """Text for people: escaped wherever it goes."""
    _write("".join(safe(line) + "\n" for line in lines))


def _write(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()
