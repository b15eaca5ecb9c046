"""The entry point: one line an error, exit codes, what reaches a terminal."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import click
import pytest

from ig_py import cli
from ig_py.cli import _config, _terminal
from ig_py.cli._log_format import log_line
from ig_py.errors import KernelError, UsageError, VerifierRejected
from ig_py.escaping import safe, safe_json


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_terminal, "_verbose", False)


BOOLS = "expected true or false (or 1, t, 0, f)"
TIME = 'expected a number of seconds, or a duration such as "500ms" or "1m30s"'


def raising(monkeypatch: pytest.MonkeyPatch, err: BaseException) -> None:
    def dispatch(_args: list[str]) -> int:
        raise err

    monkeypatch.setattr(cli, "_dispatch", dispatch)


@pytest.mark.parametrize("args", [["version"], ["version", "--config=/dev/null"]])
def test_version(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 0
    assert capsys.readouterr() == ("v0.1.0\n", "")


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["image"], ["image", "--help"]])
def test_help_goes_to_stdout(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: ig-py")
    assert err == ""


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["nosuch"], 'Error: unknown command "nosuch" for "ig-py": run \'ig-py --help\' for usage'),
        (
            ["image", "nosuch"],
            'Error: unknown command "nosuch" for "ig-py image": '
            "run 'ig-py image --help' for usage",
        ),
        (["--nosuch"], "Error: unknown flag: --nosuch"),
        (["version", "--nosuch"], "Error: unknown flag: --nosuch"),
        (["version", "now"], "Error: Got unexpected extra argument (now)"),
        (["doctor", "now"], "Error: Got unexpected extra argument (now)"),
        (
            ["image", "build", "--btfhub-archive=/x", "/nosuch"],
            "Error: --btfhub-archive has no effect: no types of kernels are added: add --btfgen",
        ),
        (
            ["image", "build", "--builder-image-pull=never", "/nosuch"],
            "Error: --builder-image-pull has no effect: a clang of this machine compiles: "
            "add --builder-image",
        ),
        (
            ["image", "verify", "--notation-certificates=/x", "a"],
            "Error: --notation-certificates has no effect: notation's signatures are not checked "
            "without a trust policy: add --notation-policy-document",
        ),
        (
            ["image", "inspect", "--disallow-pulling", "--pull=always", "a"],
            "Error: --pull has no effect: --disallow-pulling is set: leave one of them out",
        ),
        (
            ["doctor", "-r", "docker", "--crio-socketpath=/x"],
            "Error: --crio-socketpath has no effect: --runtimes leaves out cri-o: "
            "add cri-o to --runtimes",
        ),
        (["-Z"], "Error: unknown shorthand flag: 'Z' in -Z"),
        (
            ["--verbose=maybe", "image"],
            'Error: invalid argument "maybe" for "--verbose" flag: ' + BOOLS,
        ),
        (
            ["image", "list", "--no-trunc=x"],
            'Error: invalid argument "x" for "--no-trunc" flag: ' + BOOLS,
        ),
        (["image", "build", "-l=x", "."], 'Error: invalid argument "x" for "-l" flag: ' + BOOLS),
        (
            ["list-containers", "--timeout", "5x"],
            'Error: invalid argument "5x" for "--timeout" flag: ' + TIME,
        ),
        (
            ["list-containers", "--timeout=-1"],
            'Error: invalid argument "-1" for "--timeout" flag: ' + TIME,
        ),
        (["doctor", "--timeout", "x"], 'Error: invalid argument "x" for "--timeout" flag: ' + TIME),
        (
            ["image", "pull", "--insecure-registries", "http://a", "b"],
            'Error: --insecure-registries: "http://a" is no registry: '
            "write HOST or HOST:PORT, as in the name of an image",
        ),
        (
            ["image", "inspect", "x", "--show-datasources", "false"],
            'Error: "false" is not the value of --show-datasources: a boolean flag has its value '
            'after "=": write --show-datasources=false',
        ),
        (
            ["image", "inspect", "x", "--show-datasources", "maybe"],
            'Error: "maybe" is not the value of --show-datasources: a boolean flag has its value '
            'after "=": write --show-datasources=false',
        ),
    ],
)
def test_usage_errors(args: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 1
    assert capsys.readouterr() == ("", line + "\n")


def test_an_error_is_one_escaped_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, UsageError("bad \x1b[31mname\n\u202e", remedy="say it right"))
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "Error: bad \\x1b[31mname\\n\\u202e: say it right\n"


def test_an_error_names_its_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    err = UsageError("reading the flag")
    err.__cause__ = KernelError("no such map")
    raising(monkeypatch, err)
    cli.main([])
    assert capsys.readouterr().err == "Error: reading the flag: no such map\n"


def test_detail_only_when_verbose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, VerifierRejected("program refused", detail="0: r1 = 0\n1: exit\n"))
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "Error: program refused\n"
    _terminal.set_verbose(True)
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "Error: program refused\n0: r1 = 0\n1: exit\n"


def test_a_bug_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, ZeroDivisionError("what"))
    assert cli.main([]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Error: internal error: ZeroDivisionError: what")
    assert err.count("\n") == 1
    _terminal.set_verbose(True)
    cli.main([])
    assert "Traceback" in capsys.readouterr().err


def test_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert cli.main([]) == 130


def test_click_errors_have_one_line() -> None:
    assert cli._usage_message(click.UsageError("First.\nSecond.")) == "First. Second"
    assert cli._usage_message(ValueError()) is None


def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "ig_py", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert done.returncode == cli.EXIT_SIGPIPE
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢\u00a0x", "plain é 漢\u00a0x"),
        ("\x1b]0;t\x07", "\\x1b]0;t\\x07"),
        ("a\tb\r\n", "a\\tb\\r\\n"),
        ("\x9b1m\x7f", "\\x9b1m\\x7f"),
        ("\u2066\u200b\ufeff", "\\u2066\\u200b\\ufeff"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_safe(text: str, shown: str) -> None:
    assert safe(text) == shown


def test_every_character_that_controls_or_hides_is_escaped() -> None:
    for code in range(0x110000):
        char = chr(code)
        acts = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        assert not acts or safe(char) != char, f"U+{code:04X}"
    # Draw nothing (Default_Ignorable_Code_Point), though they are letters or marks.
    assert not set("\u034f\u115f\u1160\u17b4\u17b5\u180b\u3164\ufe0f\uffa0") & set(
        safe("\u034f\u115f\u1160\u17b4\u17b5\u180b\u3164\ufe0f\uffa0")
    )


def test_json_is_the_same_value_when_it_is_escaped() -> None:
    value = {"k\x7f": "a\u009b\u202e\U000e0041é日😀\x1b\n"}
    text = json.dumps(value, ensure_ascii=False, indent=1)
    shown = safe_json(text)
    assert json.loads(shown) == value
    assert "é日😀" in shown and "\n" in shown and "\\udb40\\udc41" in shown
    assert safe(shown, multiline=True) == shown


def test_the_core_escapes_the_same_characters() -> None:
    """In text for a terminal. Which characters are invisible is written in both."""
    from support.core_plans import PlanMaker

    from ig_py._core import pipeline

    maker = PlanMaker(4096)
    maker.field("text", "char", 0, 4096)
    stream = pipeline(maker.mode("text", terminal=True).text())
    codes = [
        c for c in range(1, 0x110000) if unicodedata.category(chr(c)) not in ("Cs", "Cn", "Co")
    ]
    for at in range(0, len(codes), 1000):
        text = "".join(map(chr, codes[at : at + 1000]))
        shown = stream.push("x", [text.encode().ljust(4096, b"\0")]).data.decode()
        mine = safe(text, multiline=True).replace("\\r", "\\x0d")
        assert shown == mine, [
            f"U+{ord(a):04X}" for a, b in zip(shown, mine, strict=False) if a != b
        ]


def test_only_one_module_writes_what_strangers_say_to_standard_output() -> None:
    """Events are the core's; a command's other output is written by ``ig_py.cli._stdout``."""
    root = Path(__file__).parents[2] / "ig_py"
    found = set()
    for path in (root / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                literal = all(isinstance(a, ast.Constant) for a in node.args)
                if call in ("click.echo", "print", "sys.stdout.write") and not literal:
                    found.add((path.name, ast.unparse(node)))
                if call.startswith("sys.stdout.buffer"):
                    found.add((path.name, ast.unparse(node)))
    assert found == {
        ("__init__.py", "print(user_version())"),
        ("version.py", "click.echo(user_version())"),
        ("_stdout.py", "sys.stdout.buffer.write(text.encode('utf-8', 'backslashreplace'))"),
        ("_stdout.py", "sys.stdout.buffer.flush()"),
        ("_commands.py", "click.echo(ctx.get_help())"),
        ("image_inspect.py", "click.echo(f'  {left:<{width}}  {right}'.rstrip())"),
    }


def test_safe_keeps_lines_of_logs() -> None:
    assert safe("a\n\tb\x1b", multiline=True) == "a\n\tb\\x1b"


def test_log_lines() -> None:
    line = log_line("warning", 'say "x"\n', tty=False)
    assert line.startswith('time="20')
    assert line.endswith('Z" level=warning msg="say \\"x\\"\\n"')
    assert log_line("info", "bare", tty=False).endswith(" level=info msg=bare")
    assert log_line("warning", "m", tty=True).startswith("\x1b[33mWARN\x1b[0m[0")
    assert log_line("warning", "m", tty=True).endswith("] m" + " " * 43 + " ")


def test_light_commands_import_nothing_heavy() -> None:
    code = (
        "import sys; from ig_py.cli import main; main(['version']); main(['--help']); "
        "print(sorted({'docker','oras','requests','jsonschema','ruamel','yaml','grpc',"
        "'ig_py._core','ig_py.oci'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_run_gets_its_words_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from ig_py.cli import _run

    got: list[list[str]] = []

    def record(args: list[str]) -> int:
        got.append(args)
        return 3

    monkeypatch.setattr(_run, "run", record)
    words = ["img", "-o", "-v", "--config", "x", "--", "--help", "-h"]
    assert cli.main(["-v", "run", *words]) == 3
    assert cli.main(["run", *words]) == 3
    assert got == [words, words]


def test_only_root_may_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["run", "trace_exec:1"]) == 1
    assert capsys.readouterr() == (
        "",
        "Error: running a gadget: eBPF programs can be loaded by root only: use sudo\n",
    )


def test_run_without_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    assert "Usage: ig-py run GADGET" in capsys.readouterr().out
    assert cli.main(["run", "--nosuch"]) == 1
    assert capsys.readouterr().err == "Error: unknown flag: --nosuch\n"


def test_closed_standard_streams() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m ig_py version 0<&- 1>&- 2>&-', sys.executable],
        timeout=60,
        check=False,
    )
    assert done.returncode == 0


def test_a_file_that_is_refused_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Restored afterwards: the command line sets both.
    monkeypatch.setattr(_config, "_explicit", None)
    monkeypatch.setattr(_config, "_file", None)
    assert cli.main(["--config", "/dev/zero", "image", "list"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("Error: ")
    assert told.count("it is larger than") == 1


@pytest.mark.parametrize("args", [["--verbose=true", "version"], ["version", "-v=1"]])
def test_boolean_flags_have_values_behind_a_sign(args: list[str]) -> None:
    assert cli.main(args) == 0
    assert _terminal.is_verbose()


@pytest.mark.parametrize(("value", "verbose"), [("1", True), ("T", True), ("0", False)])
def test_the_variable_of_verbose(
    monkeypatch: pytest.MonkeyPatch, value: str, verbose: bool
) -> None:
    monkeypatch.setenv("INSPEKTOR_GADGET_VERBOSE", value)
    assert cli.main(["version"]) == 0
    assert _terminal.is_verbose() is verbose


def test_a_wrong_value_of_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSPEKTOR_GADGET_VERBOSE", "maybe")
    assert cli.main(["version"]) == 1
    assert capsys.readouterr().err == f'Error: setting "verbose" to "maybe": {BOOLS}\n'
