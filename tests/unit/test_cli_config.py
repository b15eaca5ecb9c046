"""Settings from the environment and the configuration file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ig_py.cli import _config, _run
from ig_py.cli._flags import Flag, Parsed
from ig_py.errors import IgPyError, UsageError

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
    (tmp_path / ".ig" / "config.yaml").write_text("operator.oci: 1\noperator: {oci: {pull: never}}")
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
