"""Declarative tests: ``tests/gadgets/<name>/test.yaml`` (docs/testing-gadgets.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ig_py import yamlsafe

GADGETS = Path(__file__).resolve().parents[1] / "gadgets"
FILE = "test.yaml"

_TEST_KEYS = frozenset(
    [
        "name",
        "needs",
        "params",
        "programs",
        "env",
        "background",
        "workload",
        "repeat",
        "seconds",
        "expect",
        "never",
        "says",
        "fails",
        "lacks",
    ]
)
_CONDITIONS = frozenset({"$re", "$min", "$max", "$any"})


class BadTest(Exception):
    """A test.yaml with an unknown key or an invalid value."""


@dataclass(frozen=True)
class GadgetTest:
    """One test of one gadget; the meaning of each key is in docs/testing-gadgets.md."""

    gadget: str
    name: str
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    background: tuple[str, ...] = ()
    workload: tuple[tuple[str, ...], ...] = ()
    repeat: bool = False
    seconds: float = 10
    expect: Mapping[str, list[Any]] = field(default_factory=dict)
    never: Mapping[str, list[Any]] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    fails: str = ""

    @property
    def directory(self) -> Path:
        return GADGETS / self.gadget

    @property
    def id(self) -> str:
        return f"{self.gadget}-{self.name.replace(' ', '_')}"


def discover(root: Path = GADGETS) -> list[GadgetTest]:
    """Every test below *root*, by gadget and as written."""
    return [test for path in sorted(root.glob(f"*/{FILE}")) for test in read(path)]


def read(path: Path) -> list[GadgetTest]:
    """The tests of one file. Raises BadTest."""
    document, _ = yamlsafe.load(path.read_bytes(), str(path))
    if not isinstance(document, dict) or not isinstance(document.get("tests"), list):
        raise BadTest(f"{path}: expected a mapping with a list of tests")
    if unknown := set(document) - {"needs", "tests"}:
        raise BadTest(f"{path}: unknown keys {sorted(unknown)}")
    needs = _texts(document.get("needs"), path, "needs")
    tests = [_test(path, entry, needs) for entry in document["tests"]]
    if len({test.name for test in tests}) != len(tests):
        raise BadTest(f"{path}: two tests have the same name")
    return tests


def _test(path: Path, entry: Any, needs: tuple[str, ...]) -> GadgetTest:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise BadTest(f"{path}: a test is a mapping with a name")
    where = f"{path}: {entry['name']}"
    if unknown := set(entry) - _TEST_KEYS:
        raise BadTest(f"{where}: unknown keys {sorted(unknown)}")
    test = GadgetTest(
        gadget=path.parent.name,
        name=entry["name"],
        needs=(*needs, *_texts(entry.get("needs"), path, where)),
        lacks=_texts(entry.get("lacks"), path, where),
        params={k: _param(v) for k, v in _mapping(entry.get("params"), where).items()},
        programs=_mapping(entry.get("programs"), where),
        env={k: str(v) for k, v in _mapping(entry.get("env"), where).items()},
        background=_command(entry.get("background"), where) if "background" in entry else (),
        workload=_commands(entry.get("workload"), where),
        repeat=bool(entry.get("repeat", False)),
        seconds=float(entry.get("seconds", 10)),
        expect=_subsets(entry.get("expect"), where),
        never=_subsets(entry.get("never"), where),
        says=_texts(entry.get("says"), path, where),
        fails=str(entry.get("fails", "")),
    )
    if not (test.expect or test.says or test.fails):
        raise BadTest(f"{where}: it expects nothing")
    return test


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadTest(f"{where}: {value!r} is no mapping")
    return value


def _texts(value: Any, path: Path, where: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(v, str) for v in values):
        raise BadTest(f"{path}: {where}: {value!r} is no list of texts")
    return tuple(values)


def _param(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _command(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, dict) and list(value) == ["python"]:
        return ("{python}", "-c", str(value["python"]))
    if isinstance(value, list) and value and not any(isinstance(v, list | dict) for v in value):
        return tuple(str(v) for v in value)
    raise BadTest(f"{where}: {value!r} is neither a list of arguments nor python: CODE")


def _commands(value: Any, where: str) -> tuple[tuple[str, ...], ...]:
    if value is None:
        return ()
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return tuple(_command(v, where) for v in value)
    return (_command(value, where),)


def _subsets(value: Any, where: str) -> dict[str, list[Any]]:
    result = {}
    for name, events in _mapping(value, where).items():
        result[name] = events if isinstance(events, list) else [events]
        if not all(isinstance(event, dict) for event in result[name]):
            raise BadTest(f"{where}: the events of {name} are no mappings")
    return result


def filled(value: Any, places: Mapping[str, str]) -> Any:
    """*value* with ``{name}`` replaced; a text that is only a number's name becomes the number."""
    if isinstance(value, dict):
        return {key: filled(item, places) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(filled(item, places) for item in value)
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\{(\w+)\}", value)
    if whole and places.get(whole[1], "").isdigit():
        return int(places[whole[1]])
    for name, text in places.items():
        value = value.replace("{" + name + "}", text)
    return value


def matches(wanted: Any, found: Any) -> bool:
    """Does *found* have what *wanted* names? Mappings may have more, lists may not."""
    if isinstance(wanted, dict) and wanted.keys() & _CONDITIONS:
        return all(_holds(key, limit, found) for key, limit in wanted.items())
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and matches(item, found[key]) for key, item in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(wanted) == len(found)
            and all(matches(w, f) for w, f in zip(wanted, found, strict=True))
        )
    return type(wanted) is type(found) and bool(wanted == found)


def _holds(key: str, limit: Any, found: Any) -> bool:
    if key == "$any":
        return True
    if key == "$re":
        return re.fullmatch(str(limit), str(found), re.S) is not None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    if key == "$min":
        return bool(found >= limit)
    if key == "$max":
        return bool(found <= limit)
    raise BadTest(f"{key} is no condition ({', '.join(sorted(_CONDITIONS))})")
