"""``run`` with a wrong value of each flag: one line that says what is allowed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# A source directory without programs: nothing is compiled or loaded.
METADATA = """\
name: procs
operator:
  process: {emitstats: true, interval: 1s, count: 1}
params:
  custom:
    mode: {values: {short: {patch: {}}, long: {patch: {}}}}
"""
COMMAND = [sys.executable, "-P", "-m", "ig_py"]
BOOLS = "expected true or false (or 1, t, 0, f)"

WRONG = [
    (["-o", "jsn"], 'no mode "jsn": give one of: columns, json, jsonpretty, none, yaml'),
    (["-o", "exc:json"], 'no data source "exc" to apply it to: name one of: processes'),
    (["-o", "processes:json,processes:yaml"], 'data source "processes" is named twice'),
    (["-o", "processes:"], '"processes:" has no value'),
    (["--fields", "nosuch"], 'column "nosuch" is invalid'),
    (["--fields", "exc:pid"], '--fields: there is no data source "exc"'),
    (["--fields", "pid;comm"], "two lists for all data sources"),
    (["--sort", "nosuch"], 'data source "processes" has no field "nosuch"'),
    (["--sort", "exc:pid"], '--sort: there is no data source "exc"'),
    (["--sort", "processes:"], '"processes:" has no rules'),
    (["--max-entries", "x"], '"x" is no number of elements (-1: no limit)'),
    (["--max-entries", "-2"], '"-2" is no number of elements'),
    (["--max-entries", "processes:10,bar:"], '"bar:" has no value'),
    (["--max-entries", "bar:1"], '--max-entries: there is no data source "bar"'),
    (["-F", "nosuch==1"], "has no field 'nosuch'"),
    (["-F", "pid==x"], "is an integer, 'x' is none"),
    (["-F", "pid== 1"], "is an integer, ' 1' is none"),
    (["-F", "pid"], "is incomplete: write FIELD OPERATOR VALUE"),
    (["-F", "pid=>1"], "one of == != > >= < <= ~ !~"),
    (["-F", "comm~("], "regular expression"),
    (["-F", "cpuUsage<1.8E+309"], "cannot hold a number as large as '1.8E+309'"),
    (["-E", "pid +"], "--filter-expr: unexpected"),
    (["--annotate", "processes:pid:a=b"], "must be in subject:assignment format"),
    (["--annotate", "exc:a=b"], 'no data source "exc": name one of: processes'),
    (["--annotate", "processes.nosuch:a=b"], 'has no field "nosuch": name one of: '),
    (["--verify-image", "false"], 'has its value after "=": write --verify-image=false'),
    (["--verify-image=maybe"], f'for "--verify-image" flag: {BOOLS}'),
    (["--validate-metadata=2"], f'for "--validate-metadata" flag: {BOOLS}'),
    (["--disallow-pulling=maybe"], f'for "--disallow-pulling" flag: {BOOLS}'),
    (["--fail-on-loss=maybe"], f'for "--fail-on-loss" flag: {BOOLS}'),
    (["--skip-unsupported=maybe"], f'for "--skip-unsupported" flag: {BOOLS}'),
    (["--auto-mount-filesystems=maybe"], f'for "--auto-mount-filesystems" flag: {BOOLS}'),
    (["--verbose=maybe"], f'for "-v, --verbose" flag: {BOOLS}'),
    (["--host", "maybe"], "write --host=false"),
    (["--host=maybe"], f'for "--host" flag: {BOOLS}'),
    (["--hold-containers=maybe"], f'for "--hold-containers" flag: {BOOLS}'),
    (["--timeout", "5x"], 'expected a duration such as "500ms" or "1m30s", or a number of sec'),
    (["--timeout", "9223372037"], 'expected a duration such as "500ms"'),
    (["--budget", "x"], "expected a whole number"),
    (["--budget=-1"], "expected events a second, 0 (no budget) to"),
    (["--buffer-size", "3"], "expected a size from 4K to 1G, such as 8M"),
    (["--buffer-size", "8X"], "expected a size from"),
    (["--pull", "sometimes"], "valid values are: always, missing, never"),
    (["--mode", "middle"], "valid values are: long, short"),
    (["--insecure-registries", "http://a"], '"http://a" is no registry: write HOST or HOST:PORT'),
    (["--allowed-gadgets", "a b"], "is not part of allowed gadgets: a b"),
    (["-r", "dockr"], "give some of docker, containerd, cri-o, podman, runc"),
    (["--docker-socketpath", "/nosuch"], "'/nosuch': no such socket"),
    (["--runtime-protocol", "x"], "valid values are: internal, cri"),
    (["--identify-timeout", "1"], 'expected a duration such as "500ms"'),
    (["--identify-timeout", "2m"], "no time of at most 60 s"),
    (["--hold-containers", "--hold-timeout", "11s"], "no time of at most 10 s"),
    (["--hold-timeout", "50ms"], "--hold-timeout has no effect: runtimes are not held: add --hol"),
    (["-r", "docker", "--crio-socketpath", "/x"], "--crio-socketpath has no effect: --runtimes le"),
    (["--verify-image=false", "--public-keys", "x"], "--public-keys has no effect: --verify-image"),
    (["--notation-certificates", "x"], "--notation-certificates has no effect: notation's"),
    (["--notation-policy-document", "x"], "--notation-policy-document has no effect: notation's"),
    (["--disallow-pulling", "--pull", "always"], "--pull has no effect: --disallow-pulling is set"),
    (["--kubeconfig", "/x"], "--kubeconfig: this version does not ask the Kubernetes API server"),
    (["--enrich-with-k8s-apiserver"], "--enrich-with-k8s-apiserver: this version does not ask"),
    (["--kubeconfig=/x", "--help"], "--kubeconfig: this version does not ask the Kubernetes API"),
    (["--buffer-size", "1M"], "--buffer-size has no effect: gadget 'procs' has no buffer of even"),
    (["-o", "json", "--fields", "pid"], "--fields has no effect: the gadget is not shown in col"),
    (
        ["-o", "json", "--fields", "processes:pid"],
        "--fields has no effect: data source 'processes' is not shown in columns",
    ),
    (["other"], 'unexpected argument "other": one image is run at a time: leave it out'),
    (["-o", "json", "other", "more"], 'unexpected argument "other": one image is run'),
    (["--k8s-selector", "a"], "give key=value[,key=value,...]"),
    (["--socket-enricher-fields", "cwd=0"], "with a power of two up to 4096"),
    (["--socket-enricher-fields", "pwd"], "is not cwd=SIZE or exepath=SIZE"),
    (["--otel-metrics-print-interval", "1"], 'expected a duration such as "500ms"'),
    (["--otel-metrics-print-interval", "1ms"], "is no duration from 25ms"),
    (["--config", "/no/such"], "reading configuration /no/such: No such file or directory"),
    (["--file", "/no/such"], "both an image"),
    (["--nosuch", "1"], "unknown flag: --nosuch"),
]


@pytest.fixture(scope="module")
def gadget(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("procs")
    (path / "gadget.yaml").write_text(METADATA)
    return path


@pytest.mark.needs("root")
@pytest.mark.parametrize(("flags", "said"), WRONG)
def test_a_wrong_value_is_refused(gadget: Path, flags: list[str], said: str) -> None:
    ended = subprocess.run(
        [*COMMAND, "run", str(gadget), "-t1", *flags], capture_output=True, text=True, timeout=60
    )
    *warnings, error = ended.stderr.splitlines()
    assert ended.returncode == 1, ended.stderr
    assert error.startswith("Error: ")
    assert said in error
    assert not [line for line in warnings if "level=" not in line]
    assert ended.stdout == ""
