"""``--fields`` of a run: a list for one data source is that data source's, or it is refused."""

from __future__ import annotations

import pytest

from ig_py.cli._run_output import RunOutput
from ig_py.errors import UsageError
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, FieldSpec, GadgetSpec, Kind
from ig_py.runtime.state import StopRequest


def source(name: str, *fields: str) -> DataSourceSpec:
    made = [FieldSpec(f, f, index, Kind.UINT32) for index, f in enumerate(fields)]
    return DataSourceSpec(name, DataSourceType.SINGLE, fields=made)


def shown(fields: str, output: str = "") -> dict[str, str]:
    sources = [source("mk", "path", "size"), source("rm", "path")]
    run = RunOutput(GadgetSpec("g", {}, datasources=sources), output, fields, StopRequest())
    return {name: plan.mode for name, plan in run.plans.items()}


@pytest.mark.parametrize(
    "fields", ["mk:path,size", "path", "mk:PATH;rm:+path", "mk: path , size", "mk:;rm:", ";"]
)
def test_lists_that_there_are(fields: str) -> None:
    assert shown(fields) == {"mk": "columns", "rm": "columns"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("mk:nope", "data source 'mk': failed to set fields: column \"nope\" is invalid"),
        ("mk:path,nope;rm:path", "data source 'mk': .*\"nope\""),
        ("mk:path:10", "data source 'mk': .*\"path:10\""),
        ("rm:-size", "data source 'rm': .*\"size\""),
        ("rm:+size", "data source 'rm': .*\"size\""),
        ("path;rm:size", "data source 'rm': .*\"size\""),
        ("nope", 'column "nope" is invalid'),
        ("xx:path", 'no data source "xx"'),
        ("mk:path;mk:size", 'data source "mk" is named twice'),
    ],
)
def test_a_list_of_a_data_source_that_it_does_not_have(fields: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        shown(fields)


def test_a_list_for_all_leaves_out_those_without_the_column(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert shown("size") == {"mk": "columns"}
    assert r"skipping data source \"rm\"" in capsys.readouterr().err
