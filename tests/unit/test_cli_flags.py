"""Flags of ``run``: both phases of parsing, values, types."""

from __future__ import annotations

from pathlib import Path

import pytest

from ig_py.cli._flags import MAX_VALUE_FILE, Flag, FlagSet, checked, help_rows
from ig_py.errors import UsageError

FLAGS = [
    Flag("timeout", "seconds", "0", short="t"),
    Flag("depth", "uint8", param="operator.oci.ebpf.depth"),
    Flag("ratio", "float64"),
    Flag("small", "float32"),
    Flag("output", short="o"),
    Flag("verify", "bool", "true"),
    Flag("host", "bool"),
    Flag("verbose", "bool", short="v"),
    Flag("pid", "uint32"),
    Flag("filter", short="F", param="operator.filter.filter"),
    Flag("pull", choices=("always", "never")),
    Flag("every", "duration"),
]


def parse(*args: str) -> dict[str, str]:
    return FlagSet(FLAGS).parse(args).values


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["-t5"], {"timeout": "5"}),
        (["-t=5"], {"timeout": "5"}),
        (["-t", "5"], {"timeout": "5"}),
        (["-t=-1"], {"timeout": "-1"}),
        (["--timeout=5"], {"timeout": "5"}),
        (["--timeout", "5"], {"timeout": "5"}),
        (["-vojson"], {"verbose": "true", "output": "json"}),
        (["-o", "-x"], {"output": "-x"}),
        (["-o="], {"output": ""}),
        (["--host"], {"host": "true"}),
        (["--host=FALSE"], {"host": "false"}),
        (["-t1", "-t2"], {"timeout": "2"}),
        (["--every", "1m30.5s"], {"every": "1m30.5s"}),
        (["--pid", "0x10"], {"pid": "16"}),
        (["-t", "0x1"], {"timeout": "0x1"}),
        (["-t", "1m30s"], {"timeout": "1m30s"}),
        (["--host=T"], {"host": "true"}),
        (["--host=0"], {"host": "false"}),
        (["--pid=1_0"], {"pid": "10"}),
        (["--pid=010"], {"pid": "8"}),
        (["--pid=0b11"], {"pid": "3"}),
        (["--depth=010"], {"depth": "010"}),
        (["--pull=never"], {"pull": "never"}),
    ],
)
def test_values(args: list[str], expected: dict[str, str]) -> None:
    assert parse(*args) == expected


def test_positionals_and_the_end_of_flags() -> None:
    parsed = FlagSet(FLAGS).parse(["a", "-t", "1", "-", "--", "--host", "b"])
    assert parsed.positionals == ["a", "-", "--host", "b"]
    assert parsed.values == {"timeout": "1"}


@pytest.mark.parametrize("word", ["false", "TRUE", "0", "yes", "off"])
@pytest.mark.parametrize("flag", ["--verify", "-v"])
def test_a_value_behind_a_boolean_flag_is_refused(flag: str, word: str) -> None:
    for parse_words in (FlagSet(FLAGS).parse, FlagSet(FLAGS).find_image):
        with pytest.raises(UsageError, match=f'"{word}" is not the value of .*write --ver'):
            parse_words(["img", flag, word])


def test_another_word_behind_a_boolean_flag_is_remembered() -> None:
    parsed = FlagSet(FLAGS).parse(["--verify", "maybe", "--pid", "1", "other", "-vt1", "x"])
    assert parsed.positionals == ["maybe", "other", "x"]
    assert {at: flag.name for at, flag in parsed.after_bool.items()} == {0: "verify"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--nosuch"], "unknown flag: --nosuch"),
        (["--nosuch=1"], "unknown flag: --nosuch"),
        (["-Z"], "unknown shorthand flag: 'Z' in -Z"),
        (["-vZ"], "unknown shorthand flag: 'Z' in -vZ"),
        (["--timeout"], "flag needs an argument: -t, --timeout"),
        (["-t"], "flag needs an argument: -t, --timeout"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (["-t", "1x"], 'invalid argument "1x" for "-t, --timeout" flag: expected a duration'),
        (["-t", "9999999999"], "or a number of seconds"),
        (["-t="], "or a number of seconds"),
        (["--depth=256"], "not between 0 and 255"),
        (["--depth=1_0"], "expected a whole number"),
        (["--pid=08"], "expected a whole number"),
        (["--pid=1__0"], "expected a whole number"),
        (["--pid="], "expected a whole number"),
        (["--ratio=1.8E+309"], "too large for a float64"),
        (["--ratio=a"], "expected a number"),
        (["--ratio= 1"], "expected a number"),
        (["--small=1e39"], "too large for a float32"),
        (["--pid=-1"], 'invalid argument "-1" for "--pid" flag: not between 0 and 4294967295'),
        (["--pid=4294967296"], "not between 0 and 4294967295"),
        (["--pid=٣"], "expected a whole number"),
        (["--host=maybe"], "expected true or false"),
        (["--pull=sometimes"], "valid values are: always, never"),
        (["--every=5"], "expected a duration"),
        (["--filter=@/no/such/file"], 'reading file "/no/such/file": No such file or directory'),
    ],
)
def test_refused(args: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(*args)
    assert message in str(caught.value)


def test_a_value_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules"
    path.write_text("comm==sh")
    assert parse(f"--filter=@{path}") == {"filter": "comm==sh"}
    # Only flags that set a parameter read files.
    assert parse(f"--output=@{path}") == {"output": f"@{path}"}


def test_a_file_too_large_or_not_text(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (MAX_VALUE_FILE + 1))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, why in ((large, "larger than"), (binary, "not UTF-8")):
        with pytest.raises(UsageError, match=why):
            parse(f"--filter=@{path}")


@pytest.mark.parametrize(
    ("args", "image"),
    [
        (["img"], "img"),
        (["--host", "img"], "img"),
        (["--timeout", "5", "img", "--host"], "img"),
        (["--unknown", "value", "img"], "img"),
        (["--unknown=value", "img"], "img"),
        (["--unknown", "img"], "img"),
        (["-o", "json", "img"], "img"),
        (["-Z", "img"], "img"),
        (["img", "--unknown", "other"], "img"),
    ],
)
def test_the_image_is_found_among_unknown_flags(args: list[str], image: str) -> None:
    assert FlagSet(FLAGS).find_image(args).positionals[0] == image


def test_help_is_seen_in_both_phases() -> None:
    for args in (["-h"], ["--help"], ["img", "-vh"]):
        assert FlagSet(FLAGS).find_image(args).help
        assert FlagSet(FLAGS).parse(args).help


def test_taken_names_and_shorthands() -> None:
    flags = FlagSet(FLAGS)
    assert not flags.add(Flag("timeout", short="x"))
    assert flags.add(Flag("other", short="t"))
    assert flags.parse(["-t1"]).values == {"timeout": "1"}
    assert flags.add(Flag("hidden-help", short="h"))
    assert flags.parse(["-h"]).help


def test_help_rows() -> None:
    rows = dict(
        help_rows(
            [
                Flag("pull", default="never", help="When", choices=("always", "never")),
                Flag("host", "bool", "false", "All"),
                Flag("pid", "int64", "0", "Only this", short="p"),
                Flag("secret", hidden=True),
            ]
        )
    )
    assert rows == {
        "    --pull string": "When [always, never] (default never)",
        "    --host": "All",
        "-p, --pid int": "Only this (default 0)",
    }


def test_checked_keeps_text_as_it_is() -> None:
    assert checked(Flag("filter"), "A,b ") == "A,b "
