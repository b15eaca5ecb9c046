"""Plain values as JSON or YAML text, as ``ig`` writes them."""

from __future__ import annotations

import json
from typing import Any

from ig_py.errors import OutputError
from ig_py.oci.gojson import escape_html

MODES = ("yaml", "json", "jsonpretty")

_YAML_END = "\n...\n"


def to_json(value: Any, *, pretty: bool = False, sort: bool = True) -> str:
    """JSON without a final newline; ``< > &`` escaped as Go does.

    *sort* orders the keys of every object.

    Raises:
        OutputError: JSON cannot hold the value.
    """
    try:
        text = json.dumps(
            value,
            ensure_ascii=False,
            allow_nan=False,
            sort_keys=sort,
            indent=2 if pretty else None,
            separators=(",", ": ") if pretty else (",", ":"),
        )
    except (ValueError, TypeError) as err:
        raise OutputError(f"rendering as JSON: {err}") from None
    return escape_html(text.encode("utf-8", "replace").decode())


def to_yaml(value: Any) -> str:
    """YAML with sorted keys, ending in a newline."""
    import yaml

    # Of a listing of some megabytes, Python's own emitter takes seconds.
    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        style = None
        if "\n" in data:
            style = "|"
        elif dumper.resolve(yaml.ScalarNode, data, (True, False)) != "tag:yaml.org,2002:str":
            style = '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    found: str = yaml.dump(
        value, Dumper=Dumper, allow_unicode=True, default_flow_style=False, width=1 << 30
    )
    # libyaml ends a document that has text with empty last lines, wherever it is.
    if isinstance(value, (dict, list)) and found.endswith(_YAML_END):
        return found.removesuffix(_YAML_END) + "\n"
    return found


def render(value: Any, mode: str, *, sort: bool = True) -> str:
    """*value* in one of MODES, with the newline that belongs to the mode."""
    if mode == "yaml":
        return to_yaml(value)
    return to_json(value, pretty=mode == "jsonpretty", sort=sort) + "\n"
