"""Plans for the core, as data; the shortest way to write one in a test."""

from __future__ import annotations

import json
from typing import Any


class PlanMaker:
    """Collects the fields of one data source; :meth:`field` returns the new id."""

    def __init__(self, sample_size: int, name: str = "x") -> None:
        self.fields: list[dict[str, Any]] = []
        self.datasource: dict[str, Any] = {
            "name": name,
            "sample_size": sample_size,
            "fields": self.fields,
            "steps": [],
            "filters": [],
            "output": {"mode": "json"},
        }
        self.document: dict[str, Any] = {
            "version": 1,
            "clock_offset_ns": 0,
            "timezone_offset_s": 0,
            "datasources": [self.datasource],
        }

    def field(
        self,
        name: str,
        kind: str,
        offset: int = 0,
        size: int = 0,
        parent: int | None = None,
        **more: Any,
    ) -> int:
        number = len(self.fields)
        full = name if parent is None else f"{self.fields[parent]['full_name']}.{name}"
        self.fields.append(
            {
                "id": number,
                "name": name,
                "full_name": full,
                "parent": parent,
                "kind": kind,
                "offset": offset,
                "size": size,
                "count": 1,
                "json": True,
            }
            | more
        )
        return number

    def slot(self, name: str, parent: int | None = None, kind: str = "str", **more: Any) -> int:
        return self.field(name, kind, parent=parent, slot=True, **more)

    def step(self, op: str, **keys: Any) -> None:
        self.datasource["steps"].append({"op": op} | keys)

    def filter(self, field: int, op: str, value: str) -> None:
        self.datasource["filters"].append({"field": field, "op": op, "value": value})

    def mode(self, mode: str, **more: Any) -> PlanMaker:
        self.datasource["output"] = {"mode": mode} | more
        return self

    def text(self) -> str:
        return json.dumps(self.document)
