"""Image archives as tar: a strict reader and a reproducible writer.

The reader extracts nothing: it records the offset of each regular file. Links, devices,
duplicates and names that an image layout does not have are refused, so no path can be
traversed and no file overwritten (CVE-2026-50162, CVE-2021-32760).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from ig_py.errors import IntegrityError, LimitError
from ig_py.oci import limits
from ig_py.records import dataclass

BLOCK = 512
_MAX_PAX = 64 * limits.KIB
_MAX_NAME = 100
_MAX_OCTAL = 0o77777777777
_REGULAR = (b"0", b"\0")
_DIRECTORY = b"5"
_PAX = (b"x", b"g")
_NAME = re.compile(r"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}|blobs/sha512/[0-9a-f]{128}")
_FOLDER = re.compile(r"\.?|blobs|blobs/sha256|blobs/sha512")
_PAX_HARMLESS = re.compile(r"[am]time|ctime|comment|uid|gid|uname|gname|(SCHILY|LIBARCHIVE)\..*")


@dataclass(frozen=True)
class Member:
    """Offset and size of a file's bytes."""

    offset: int
    size: int


def scan(file: BinaryIO, what: str) -> dict[str, Member]:
    """The files of an image archive by name.

    *file* is seekable.

    Raises:
        IntegrityError: It is not such an archive, or truncated.
        LimitError: It is too large, or has too many members.
        OSError: It cannot be read.
    """
    total = file.seek(0, 2)
    if total > limits.MAX_ARCHIVE:
        raise LimitError(
            f"{what}: {limits.human(total)} exceeds the limit of {limits.human(limits.MAX_ARCHIVE)}"
        )
    members: dict[str, Member] = {}
    headers = records = 0
    position = 0
    while True:
        file.seek(position)
        header = file.read(BLOCK)
        if not any(header):
            if not header and position == 0:
                raise IntegrityError(f"{what}: is empty")
            return members
        _check_header(header, what, first=position == 0)
        headers += 1
        if headers > limits.MAX_ARCHIVE_MEMBERS:
            raise LimitError(f"{what}: more than {limits.MAX_ARCHIVE_MEMBERS} members")
        size = _number(header[124:136], what)
        start = position + BLOCK
        if start + size > total:
            raise IntegrityError(f"{what}: truncated: a member reaches beyond the end")
        kind = header[156:157]
        if kind in _PAX:
            if size > _MAX_PAX:
                raise LimitError(f"{what}: an extended header of {size} bytes")
            records += _check_pax(file.read(size), what)
            if records > limits.MAX_PAX_RECORDS:
                raise LimitError(
                    f"{what}: more than {limits.MAX_PAX_RECORDS} records of extended headers"
                )
        else:
            _note(members, header, kind, Member(start, size), what)
        position = start + (size + BLOCK - 1) // BLOCK * BLOCK


def _note(members: dict[str, Member], header: bytes, kind: bytes, at: Member, what: str) -> None:
    name = _name(header, what)
    if kind == _DIRECTORY and _FOLDER.fullmatch(name.rstrip("/")) and at.size == 0:
        return
    if kind not in _REGULAR:
        raise IntegrityError(f"{what}: {name[:200]!r} is not a regular file")
    if not _NAME.fullmatch(name):
        raise IntegrityError(f"{what}: {name[:200]!r} is not a file of an image layout")
    if name in members:
        raise IntegrityError(f"{what}: {name!r} occurs twice")
    members[name] = at


def _check_header(header: bytes, what: str, *, first: bool) -> None:
    if header[:2] == b"\x1f\x8b" and first:
        raise IntegrityError(
            f"{what}: is compressed", remedy="gadget image archives are plain tar; gunzip it"
        )
    if len(header) < BLOCK:
        why = "not a tar archive" if first else "truncated: unexpected end of file"
        raise IntegrityError(f"{what}: {why}")
    stored = _number(header[148:156], what)
    if stored != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise IntegrityError(f"{what}: not a tar archive" if first else f"{what}: damaged header")


def _number(field: bytes, what: str) -> int:
    text = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]{0,12}", text):
        raise IntegrityError(f"{what}: not a tar archive: a header has an invalid number")
    return int(text or b"0", 8)


def _name(header: bytes, what: str) -> str:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].partition(b"\0")[0]
        name = prefix + b"/" + name if prefix else name
    try:
        return name.decode("ascii").removeprefix("./")
    except UnicodeDecodeError:
        raise IntegrityError(f"{what}: {name[:200]!r} is not a file of an image layout") from None


_RECORD = re.compile(rb"([0-9]{1,6}) ")


def _check_pax(records: bytes, what: str) -> int:
    """Refuse extended headers that would change a name, size or target; how many there are."""
    count = at = 0
    while at < len(records):
        start = _RECORD.match(records, at)
        # A record is at least its own length.
        if start is None or not start.end() <= at + int(start[1]) <= len(records):
            raise IntegrityError(f"{what}: damaged extended header")
        end = at + int(start[1])
        key = records[start.end() : end].partition(b"=")[0].decode(errors="replace")
        if not _PAX_HARMLESS.fullmatch(key):
            raise IntegrityError(f"{what}: extended header {key[:80]!r} is not accepted")
        count, at = count + 1, end
    return count


def write(file: BinaryIO, members: Iterator[tuple[str, int, int, Iterator[bytes]]]) -> None:
    """Write *members* (name, mode, size, content) as USTAR; same members, same bytes.

    Owner root, time 0, and the two zero blocks that end an archive, nothing more.
    """
    for name, mode, size, chunks in members:
        file.write(header_block(name, mode, size))
        for chunk in chunks:
            file.write(chunk)
        file.write(b"\0" * (-size % BLOCK))
    file.write(b"\0" * 2 * BLOCK)


def header_block(name: str, mode: int, size: int) -> bytes:
    """One USTAR header of a regular file."""
    raw = name.encode("ascii")
    if len(raw) > _MAX_NAME or size > _MAX_OCTAL:
        raise LimitError(f"{name} ({size} bytes): does not fit into an archive")
    block = bytearray(BLOCK)

    def put(offset: int, value: bytes) -> None:
        block[offset : offset + len(value)] = value

    put(0, raw)
    for offset, number in ((100, mode), (108, 0), (116, 0), (329, 0), (337, 0)):
        put(offset, b"%07o" % number)
    put(124, b"%011o" % size)
    put(136, b"%011o" % 0)
    put(148, b" " * 8)
    put(156, b"0")
    put(257, b"ustar\x0000")
    put(265, b"root")
    put(297, b"root")
    put(148, b"%06o\0 " % sum(block))
    return bytes(block)
