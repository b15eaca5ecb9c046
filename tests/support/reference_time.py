"""Wall-clock times by a Go layout, for the tokens that a field's layout is made of in tests."""

from __future__ import annotations

from datetime import datetime, timedelta

DEFAULT_LAYOUT = "2006-01-02T15:04:05.000000000Z07:00"
_EPOCH = datetime(1970, 1, 1)
_NS = 1_000_000_000


def _zone(offset: int, colon: str) -> str:
    minutes = abs(offset) // 60
    return f"{'-' if offset < 0 else '+'}{minutes // 60:02}{colon}{minutes % 60:02}"


def tokens(unix_ns: int, offset_s: int) -> dict[str, str]:
    """Layout token -> its text; longer tokens come before those they begin with."""
    seconds, fraction = divmod(unix_ns, _NS)
    local = _EPOCH + timedelta(seconds=seconds + offset_s)
    hour12 = local.hour % 12 or 12
    digits = f"{fraction:09}"
    short = digits.rstrip("0")
    return {
        "2006": f"{local.year:04}",
        "January": local.strftime("%B"),
        "Jan": local.strftime("%b"),
        "Monday": local.strftime("%A"),
        "Mon": local.strftime("%a"),
        "Z07:00": "Z" if offset_s == 0 else _zone(offset_s, ":"),
        "-07:00": _zone(offset_s, ":"),
        "Z0700": "Z" if offset_s == 0 else _zone(offset_s, ""),
        "-0700": _zone(offset_s, ""),
        ".000000000": f".{digits}",
        ".000000": f".{digits[:6]}",
        ".000": f".{digits[:3]}",
        ".999999999": f".{short}" if short else "",
        "002": f"{local.timetuple().tm_yday:03}",
        "01": f"{local.month:02}",
        "02": f"{local.day:02}",
        "03": f"{hour12:02}",
        "04": f"{local.minute:02}",
        "05": f"{local.second:02}",
        "06": f"{local.year % 100:02}",
        "15": f"{local.hour:02}",
        "PM": "PM" if local.hour >= 12 else "AM",
        "pm": "pm" if local.hour >= 12 else "am",
        "_2": f"{local.day:2}",
        "1": str(local.month),
        "2": str(local.day),
        "3": str(hour12),
        "4": str(local.minute),
        "5": str(local.second),
    }


def show(unix_ns: int, offset_s: int, layout: str) -> str:
    known = tokens(unix_ns, offset_s)
    out = ""
    while layout:
        token = next((t for t in known if layout.startswith(t)), None)
        out += known[token] if token else layout[0]
        layout = layout[len(token) if token else 1 :]
    return out
