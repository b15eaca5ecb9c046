"""Each gadget, compiled by each clang, passes the verifier with room to its limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import features, mounts
from support.compilers import clang_params, require_release
from support.gadget_build import ROOT, lacks_loadable_objects, loadable_gadgets, loadable_object
from support.verified import verified

from ig_py.gadget.load import build_spec
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.sockets import MAP, STRUCT, Layout
from ig_py.gadget.spec import GadgetSpec
from ig_py.host.proc import HostView
from ig_py.operators.parts import KernelStruct, LoadParts
from ig_py.runtime.image_btf import ImageBtf
from ig_py.runtime.loader import Loader, LoadSettings
from ig_py.toolchain.clang import Clang

pytestmark = pytest.mark.needs("root", "bpf", "btf", "clang")

MAX_VERIFIED = 250_000
"""A quarter of what the verifier takes: other kernels need more for the same program."""
NAME_MAX = 15
"""The kernel keeps so much of a program's name."""
FEATURES = {"fentry": "fentry", "fexit": "fentry", "fmod_ret": "fentry", "lsm": "lsm"}
"""Program types that some kernels do not support at all."""
NO_TYPES = ImageBtf((), HostView(), "test")


def parts(spec: GadgetSpec) -> LoadParts:
    """What operators would give."""
    if spec.map(MAP) is None:
        return LoadParts()
    owner = Layout(512, 512)
    return LoadParts(
        kernel_structs=[KernelStruct(STRUCT, owner.value_size, owner.members())],
        value_sizes={MAP: owner.value_size},
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loads")


@pytest.fixture(scope="module", params=clang_params())
def clang(request: pytest.FixtureRequest) -> Clang:
    found = require_release(request.param)
    if why := lacks_loadable_objects(found):
        features.lack(f"clang-{request.param}", why)
    return found


@pytest.mark.parametrize(
    "gadget", loadable_gadgets(), ids=lambda path: "root" if path == ROOT else path.name
)
def test_loads(
    gadget: Path, clang: Clang, directory: Path, record_property: Callable[[str, object], None]
) -> None:
    elf = loadable_object(gadget, clang, directory)
    metadata = gadget / "gadget.yaml"
    spec = build_spec(
        Metadata.parse(metadata.read_bytes(), str(metadata)), elf, name="test", source="test"
    )
    for program in spec.programs:
        feature = FEATURES.get(program.section.partition("/")[0])
        if feature is not None and not program.optional:
            features.need(feature)
    loader = Loader(elf, spec, parts(spec), LoadSettings(), lambda _notice: None, NO_TYPES)
    # Pins of maps end with the mount.
    with mounts.bpffs_mounted():
        obj = loader.load()
    try:
        costs = verified(obj.program_ids())
    finally:
        obj.close()
    required = {p.name[:NAME_MAX] for p in spec.programs if not (p.optional or p.disabled)}
    assert required <= costs.keys()
    for name, instructions in costs.items():
        record_property(name, instructions)
    assert {name: cost for name, cost in costs.items() if cost > MAX_VERIFIED} == {}
