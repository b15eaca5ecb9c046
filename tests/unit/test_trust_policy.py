"""Policy files: what they set, no flag loosens."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import trust
from support.images import image, name
from support.registry_cases import do_pull, make_quick
from support.registry_cases import options as registry_options
from support.registry_server import FaultyRegistry, serving

import ig_py
from ig_py.cli import main
from ig_py.errors import IgPyError, RegistryDenied, UsageError, VerificationError
from ig_py.oci import policy
from ig_py.oci.options import ResolveOptions
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions, Repository
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull, push
from ig_py.resolver import resolve

pytestmark = pytest.mark.needs("openssl")


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``system`` and ``user`` policies."""
    monkeypatch.setattr(policy, "SYSTEM", tmp_path / "system")
    monkeypatch.setattr(policy, "USER", tmp_path / "user")
    return tmp_path


@pytest.fixture
def options(tmp_path: Path) -> ResolveOptions:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    for key in ("one", "two"):
        trust.make_key(tmp_path, "p256", key)
    trust.sign_legacy(store, image("a").index, tmp_path / "one.key")
    return ResolveOptions(
        arch="amd64", pull="never", store=store, public_keys=[str(tmp_path / "one.pub")]
    )


def say(path: Path, **settings: object) -> None:
    path.write_text(json.dumps({k.replace("_", "-"): v for k, v in settings.items()}))


@pytest.mark.parametrize("who", ["system", "user"])
def test_verification_stays_on(files: Path, options: ResolveOptions, who: str) -> None:
    say(files / who, verify_image=True)
    assert resolve("x:1", options)
    with pytest.raises(UsageError, match="--verify-image=false is not allowed"):
        resolve("x:1", replace(options, verify_image=False))


def test_keys(files: Path, options: ResolveOptions) -> None:
    say(files / "system", public_keys=[str(files / "two.pub")])
    # The flag's key made the signature, and does not count.
    with pytest.raises(UsageError, match="none of the given public keys"):
        resolve("x:1", options)
    with pytest.raises(VerificationError, match="not signed by"):
        resolve("x:1", ResolveOptions(arch="amd64", pull="never", store=options.store))
    say(files / "system", public_keys=[str(files / "one.pub"), str(files / "two.pub")])
    assert resolve("x:1", options)
    # A flag and the user's policy may select some of them.
    with pytest.raises(VerificationError):
        resolve("x:1", replace(options, public_keys=[(files / "two.pub").read_text()]))
    say(files / "user", public_keys=[str(files / "two.pub")])
    with pytest.raises(IgPyError):
        resolve("x:1", options)


def test_certificates_of_flags_do_not_count(files: Path, options: ResolveOptions) -> None:
    say(files / "system", public_keys=[str(files / "one.pub")])
    tightened = policy.tighten(
        replace(options, notation_certificates=["mine.pem"], notation_policy="{}")
    )
    assert (tightened.notation_certificates, tightened.notation_policy) == ((), "")


@pytest.mark.parametrize(
    ("allowed", "flags", "passes"),
    [
        ([name("x:1")], [], True),
        ([name("*")], [name("x:1")], True),
        ([name("y*")], [name("x:1")], False),
        ([name("x*")], [name("y:1")], False),
        ([], [name("x:1")], False),
    ],
)
def test_allowed_gadgets(
    files: Path, options: ResolveOptions, allowed: list[str], flags: list[str], passes: bool
) -> None:
    say(files / "system", allowed_gadgets=allowed)
    wanted = replace(options, allowed_gadgets=flags)
    if passes:
        assert resolve("x:1", wanted)
        with pytest.raises(VerificationError, match="allowed gadgets"):
            resolve(str(files / "store"), wanted)
    else:
        with pytest.raises(VerificationError, match="allowed gadgets"):
            resolve("x:1", wanted)


def test_pulling(files: Path, options: ResolveOptions) -> None:
    say(files / "user", disallow_pulling=True)
    with pytest.raises(RegistryDenied, match="disallowed"):
        resolve("y:1", replace(options, pull="always", disallow_pulling=False))


def test_insecure_registries(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        say(files / "system", insecure_registries=["other:5000"])
        with pytest.raises(IgPyError, match="HTTPS"):
            do_pull(registry, Store.open(files / "new"))
        say(files / "system", insecure_registries=[registry.host])
        do_pull(registry, Store.open(files / "new"))
        with Repository(normalize(f"{registry.host}/te:1"), replace(
            registry_options(registry), insecure_registries=()
        )) as remote, pytest.raises(IgPyError):  # fmt: skip
            remote.resolve("1")


def test_mirrors(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror is asked first; images keep their own name."""
    make_quick(monkeypatch)
    said: list[str] = []
    with serving(FaultyRegistry()) as mirror, serving(FaultyRegistry()) as own:
        mirror.put("cache/te", "1", image("a"))
        own.put("te", "2", image("b"))
        say(files / "system", mirrors={own.host: f"{mirror.host}/cache"})
        options = replace(registry_options(own), insecure_registries=(own.host, mirror.host))
        store = Store.open(files / "new")
        pull(normalize(f"{own.host}/te:1"), store, options, on_message=said.append)
        assert own.requests == [] and said == []
        pull(normalize(f"{own.host}/te:2"), store, options, on_message=said.append)
        assert "mirror does not have" in said[0]
        assert [i.name for i in store.images()] == [f"{own.host}/te:1", f"{own.host}/te:2"]


def test_several_mirrors(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mirrors are asked in their order; one that is gone or has no image is no failure."""
    make_quick(monkeypatch)
    said: list[str] = []
    with serving(FaultyRegistry()) as gone:
        pass
    with serving(FaultyRegistry()) as empty, serving(FaultyRegistry()) as mirror:
        mirror.put("te", "1", image("a"))
        say(files / "user", mirrors={"own.test": [gone.host, f"{empty.host}/x/y", mirror.host]})
        hosts = (gone.host, empty.host, mirror.host)
        options = replace(registry_options(mirror), insecure_registries=hosts)
        store = Store.open(files / "new")
        pull(normalize("own.test/te:1"), store, options, on_message=said.append)
        assert [text.partition(":")[0] for text in said] == [
            "the mirror does not have own.test/te"
        ] * 2
        assert [r.path for r in empty.requests] == ["/v2/x/y/te/manifests/1"]
        assert [i.name for i in store.images()] == ["own.test/te:1"]


def test_mirrors_without_signatures(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry itself is asked for them then."""
    make_quick(monkeypatch)
    private, public = trust.make_key(files)
    with serving(FaultyRegistry()) as mirror, serving(FaultyRegistry()) as own:
        signed = Store.open(files / "signed")
        signed.add(image("a"), f"{own.host}/te:1")
        trust.sign_legacy(signed, image("a").index, private)
        hosts = (own.host, mirror.host)
        push(normalize(f"{own.host}/te:1"), signed, RegistryOptions(insecure_registries=hosts))
        mirror.put("te", "1", image("a"))
        say(files / "user", mirrors={own.host: mirror.host})
        store = Store.open(files / "new")
        options = ResolveOptions(
            arch="amd64", store=store, insecure_registries=hosts, public_keys=[str(public)]
        )
        own.requests.clear()
        assert resolve(f"{own.host}/te:1", options).digest == image("a").index.digest
        assert own.seen("manifests/sha256-.*sig$") and not own.seen("manifests/1$")


@pytest.mark.parametrize(
    ("place", "text", "meant"),
    [
        ("registry.test/team/gadgets", "x", "registry.test/team/gadgets/x:latest"),
        ("registry.test:5000", "x:1", "registry.test:5000/x:1"),
        ("registry.test/team", "other/x", "registry.test/other/x:latest"),
        ("registry.test/team", "ghcr.io/x", "ghcr.io/inspektor-gadget/gadget/x:latest"),
        ("registry.test/team", "localhost/x", "localhost/x:latest"),
        ("docker.io", "x", "docker.io/library/x:latest"),
    ],
)
def test_default_registry(files: Path, place: str, text: str, meant: str) -> None:
    say(files / "user", default_registry=place)
    default = policy.default_registry()
    assert str(normalize(text, default)) == meant
    short = normalize("x", default).short_repository(default)
    assert short == "x" or place == "docker.io"
    # The name in the list must not mean another image.
    full = normalize("ghcr.io/inspektor-gadget/gadget/x", default)
    assert full.short_repository(default) == full.repository
    say(files / "system", default_registry="first.test")
    assert str(normalize("x", policy.default_registry())) == "first.test/x:latest"


def test_every_command_completes_short_names_alike(
    files: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for commands that neither pull nor run: one name must not mean two images."""
    monkeypatch.setenv("IG_PY_STORE", str(files / "store"))
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    say(files / "system", default_registry="own.test/team")
    store = Store.open()
    store.add(image("a"), "own.test/team/x:1")

    def run(*args: str) -> str:
        assert main(["image", *args]) == 0, capfd.readouterr().err
        return capfd.readouterr().out

    assert [row["Repository"] for row in json.loads(run("list", "-o", "json"))] == ["x"]
    run("tag", "x:1", "x:2")
    run("export", "x:2", str(files / "x.tar"))
    run("remove", "x:2")
    private, public = trust.make_key(files)
    run("sign", "x:1", "--key", str(private))
    run("verify", "x:1", "--public-keys", str(public))
    assert "own.test/team/x:2" in run("import", str(files / "x.tar"))
    assert [i.name for i in store.images() if not i.name.startswith("sha256-")] == [
        "own.test/team/x:1",
        "own.test/team/x:2",
    ]
    found = resolve("x:2", ResolveOptions(arch="amd64", pull="never", verify_image=False))
    assert found.normalized == "own.test/team/x:2"


def test_no_name_is_completed_without_the_policy() -> None:
    """A call of ``normalize`` without a default registry would ignore the policy files."""
    given = [
        len(node.args) + len(node.keywords)
        for path in Path(ig_py.__file__).parent.rglob("*.py")
        if "ig_py.oci.reference import" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "normalize"
    ]
    assert given == [2, 2, 2, 2]


def test_policies_are_read_again_when_they_change(files: Path) -> None:
    for number in range(3):
        say(files / "user", default_registry=f"r{number}.test")
        assert policy.default_registry().host == f"r{number}.test"
        assert policy.default_registry().host == f"r{number}.test"


@pytest.mark.parametrize(
    "text",
    ["default-registry: 1", "default-registry: 'https://x'", "mirrors: {a: [b, 1]}",
     "mirrors: {a: [" + "b," * 17 + "]}", "[]",
     "verify-image: 1", "verify-image: 'false'", "public-keys: x",
     "public-keys: [1]",
     "unknown: 1", "mirrors: [x]", "mirrors: {a: 'http://b'}", "a: [", "verify-image: true\n" * 2,
     "", "# " + "x" * 300_000],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_policy_that_is_not_understood_allows_nothing(
    files: Path, options: ResolveOptions, text: str
) -> None:
    (files / "system").write_text(text)
    with pytest.raises(IgPyError):
        resolve("x:1", options)
