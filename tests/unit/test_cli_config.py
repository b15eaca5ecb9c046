"""Settings from the environment and the configuration file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import deadline

from ig_py.cli import _config, _run, image_inspect
from ig_py.cli._flags import Flag, Parsed
from ig_py.cli._run_flags import static_flags
from ig_py.errors import IgPyError, UsageError
from ig_py.gadget.param_values import split_list

TEXT = """
operator:
  OCI:
    verify-image: false
    allowed-gadgets: [a, "b,c"]
    pull:
  localmanager:
    runtimes: docker
"""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(_config, "_explicit", None)
    monkeypatch.setattr(_config, "_file", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    _config.use_file(str(path))
    assert _config.configured("operator.oci.verify-image") == "false"
    assert _config.configured("operator.oci.allowed-gadgets") == "a,b\\,c"
    assert _config.configured("operator.LocalManager.runtimes") == "docker"
    for absent in ("operator.oci.pull", "operator.oci", "operator.oci.pull.x", "nosuch"):
        assert _config.configured(absent) is None


def test_the_default_file_may_be_absent_or_not(tmp_path: Path) -> None:
    assert _config.configured("operator.oci.pull") is None
    (tmp_path / ".ig").mkdir()
    (tmp_path / ".ig" / "config.yaml").write_text("operator: {oci: {pull: never}}")
    _config._file = None
    assert _config.configured("operator.oci.pull") == "never"


@pytest.mark.parametrize("text", ["[1]", "a: [", "x: &a [*a]", "#" * 300_000])
def test_wrong_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(IgPyError, match="config"):
        _config.use_file(str(path))


def test_an_explicit_file_must_exist() -> None:
    with pytest.raises(UsageError, match="reading configuration /no/such: No such file"):
        _config.use_file("/no/such")


def test_precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    flag = Flag("verify-image", "bool", "true", param="operator.oci.verify-image")

    def value(**given: str) -> str:
        values = {name.replace("_", "-"): text for name, text in given.items()}
        return _run._early_values([flag], Parsed(values), {})["verify-image"]

    assert value() == "true"
    assert value(config=str(path)) == "false"
    monkeypatch.setenv("INSPEKTOR_GADGET_OPERATOR_OCI_VERIFY_IMAGE", "TRUE")
    assert value(config=str(path)) == "true"
    assert value(config=str(path), verify_image="false") == "false"
    monkeypatch.setenv("INSPEKTOR_GADGET_OPERATOR_OCI_VERIFY_IMAGE", "maybe")
    with pytest.raises(UsageError, match="--verify-image"):
        value()


KEY = "operator.oci.allowed-gadgets"


@pytest.mark.parametrize(
    "text",
    [
        "operator.oci.allowed-gadgets: [a, b]",
        "Operator.OCI.Allowed-Gadgets: [a, b]",
        "operator.oci: {allowed-gadgets: [a, b]}",
        "operator: {oci.allowed-gadgets: [a, b]}",
        "operator: {oci: {allowed-gadgets: 'a,b'}}",
        # The most dotted spelling counts, as in viper.
        "operator: {oci: {allowed-gadgets: [c]}}\noperator.oci.allowed-gadgets: [a, b]",
        "operator.oci: {allowed-gadgets: [a, b]}\noperator: {oci: {allowed-gadgets: [c]}}",
        "operator.oci: {pull: never}\noperator: {oci: {allowed-gadgets: [a, b]}}",
        "operator.oci.allowed-gadgets:\noperator: {oci: {allowed-gadgets: [a, b]}}",
    ],
)
def test_dotted_and_nested_keys(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    _config.use_file(str(path))
    assert _config.configured(KEY) == "a,b"


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("a b", ["a", "b"]),
        ("  a\tb  c,d ", ["a", "b", "c", "d"]),
        ("a, b", ["a", "b"]),
        ("a\\,b c", ["a,b", "c"]),
        ("-----BEGIN PUBLIC KEY-----\nab", ["-----BEGIN PUBLIC KEY-----\nab"]),
    ],
)
def test_white_space_separates_the_elements_of_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, elements: list[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({KEY: text, "operator.LocalManager.kubeconfig": text}))
    _config.use_file(str(path))
    found = _config.configured(KEY, is_list=True)
    assert found is not None
    assert split_list(found) == elements
    assert _config.configured("operator.LocalManager.kubeconfig") == text
    path.write_text("{}")
    _config.use_file(str(path))
    monkeypatch.setenv("INSPEKTOR_GADGET_OPERATOR_OCI_ALLOWED_GADGETS", text)
    assert _config.configured(KEY, is_list=True) == found


def test_elements_of_a_list_of_the_file_keep_their_white_space(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{KEY}: ['a b', c]")
    _config.use_file(str(path))
    assert _config.configured(KEY, is_list=True) == "a b,c"


def test_flags_that_are_lists_are_split_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPEKTOR_GADGET_OPERATOR_OCI_ALLOWED_GADGETS", "a b")
    monkeypatch.setenv("INSPEKTOR_GADGET_OPERATOR_LOCALMANAGER_RUNTIMES", "docker podman")
    flags = static_flags()
    for values in (
        _run._early_values(flags, Parsed(), {}),
        image_inspect._with_defaults(flags, {}),
    ):
        assert values["allowed-gadgets"] == "a,b"
        assert values["runtimes"] == "docker podman"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("operator.oci.alowed-gadgets: [a]", "operator.oci.alowed-gadgets has no effect: there is"),
        ("\noperator:\n  oci:\n    pul: never", "config.yaml:4: operator.oci.pul has no effect"),
        ("operator: {oci: {pull: {x: 1}}}", "operator.oci.pull.x has no effect"),
        ("operator: {oci: {pull: }}", "operator.oci.pull has no effect: it has no value"),
        ("operator: {oci: {pull: {}}}", "operator.oci.pull has no effect: it has no value"),
        ("timeout: 5", "config.yaml:1: timeout has no effect"),
        ("runtime: {connection-timeout: 5s}", "runtime.connection-timeout has no effect"),
        (
            "operator: {oci: {pull: never}}\noperator.oci.pull: always",
            "config.yaml:1: operator.oci.pull has no effect: the value in line 2 counts",
        ),
    ],
)
def test_keys_that_nothing_reads_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    _config.use_file(str(path))
    err = capsys.readouterr().err
    assert said in err
    assert err.count("has no effect") == 1


def test_keys_that_are_read_are_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "verbose: true\nAuto-Mount-Filesystems: false\noperator.LocalManager.runtimes: docker\n"
        "operator: {env: {env-vars: A}, socketenricher: {socket-enricher-fields: [cwd]}}\n"
    )
    monkeypatch.setenv("INSPEKTOR_GADGET_DOCKER_SOCKETPATH", "/x")
    monkeypatch.setenv("INSPEKTOR_GADGET_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("INSPEKTOR_GADGET_PORT_80_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("INSPEKTOR_GADGET_OPERATOR_OCI_PULL", "never")
    _config.use_file(str(path))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("engine", ["DOCKER", "CONTAINERD", "CRIO", "PODMAN"])
def test_the_short_variable_of_an_engines_socket_counts_after_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    key = f"operator.LocalManager.{engine.lower()}-socketpath"
    assert _config.configured(key) is None
    monkeypatch.setenv(f"INSPEKTOR_GADGET_{engine}_SOCKETPATH", "/short")
    assert _config.configured(key) == "/short"
    path = tmp_path / "config.yaml"
    path.write_text(f"{key}: /file\n")
    _config.use_file(str(path))
    assert _config.configured(key) == "/file"
    monkeypatch.setenv(_config.env_name(key), "/long")
    assert _config.configured(key) == "/long"


def test_a_socket_of_the_environment_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPEKTOR_GADGET_DOCKER_SOCKETPATH", "/nosuch.sock")
    result = subprocess.run(
        [sys.executable, "-P", "-m", "ig_py", "list-containers"],
        capture_output=True,
        text=True,
        timeout=deadline(60),
    )
    assert result.returncode == 1
    assert result.stderr.count("runtime docker: '/nosuch.sock': no such socket") == 1


def test_variables_that_nothing_reads_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSPEKTOR_GADGET_OPERATOR_OCI_ALOWED_GADGETS", "a")
    assert _config.configured(KEY) is None
    assert "INSPEKTOR_GADGET_OPERATOR_OCI_ALOWED_GADGETS has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("operator: {oci: {pull: a}}\nOperator: {}", "config.yaml:2: key 'Operator' is in line 1"),
        ("operator.oci.allowed-gadgets: [{a: b}]", "an element is not a text"),
        ("verbose: maybe", 'setting "verbose" to "maybe": expected true or false'),
    ],
)
def test_wrong_values_of_the_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        _config.use_file(str(path))
        _config.configured(KEY)
        _config.flag_set("verbose")


def test_an_empty_variable_does_not_undo_a_policy_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("operator.oci.allowed-gadgets: [a]")
    monkeypatch.setenv("INSPEKTOR_GADGET_OPERATOR_OCI_ALLOWED_GADGETS", "")
    _config.use_file(str(path))
    assert _config.configured(KEY) == "a"


@pytest.mark.parametrize("name", ["verbose", "auto-mount-filesystems"])
@pytest.mark.parametrize(
    ("variable", "file", "flag", "expected"),
    [
        ("", "", None, "false"),
        ("1", "", None, "true"),
        ("T", "false", None, "true"),
        ("", "true", None, "true"),
        ("0", "true", None, "false"),
        ("1", "true", "false", "false"),
    ],
)
def test_flags_of_every_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    variable: str,
    file: str,
    flag: str | None,
    expected: str,
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{name}: {file}\n" if file else "")
    monkeypatch.setenv(_config.env_name(name), variable)
    given = {"config": str(path)} | ({name: flag} if flag else {})
    values = _run._early_values([Flag(name, "bool", "false")], Parsed(given), {})
    assert values[name] == expected
