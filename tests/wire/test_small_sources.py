"""Sources that build with the headers of Inspektor Gadget build with these: tests/gadgets/small.

Each line of a file there is a source of its own, put behind the same includes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.compilers import compile_with, each_clang

from ig_py.errors import BuildError

pytestmark = pytest.mark.needs("clang")

SMALL = Path(__file__).parents[1] / "gadgets" / "small"
INCLUDES = """\
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <gadget/filter.h>
#include <gadget/buffer.h>
#include <gadget/common.h>
#include <gadget/macros.h>
#include <gadget/packetfilter.h>
#include <gadget/types.h>
#include <gadget/user_stack_map.h>
char LICENSE[] SEC("license") = "GPL";
struct event { struct gadget_process proc; char text[TEXT]; };
"""
TEXT = 16
RESERVED = {"reserve": 500, "populate": 492, "filter": 484}
"""Bytes of its stack that a program has for itself, by what it does: those that the headers of
Inspektor Gadget leave it, less 4 where it reads nothing else of the kernel."""


def sources(file: str) -> list[str]:
    lines = (SMALL / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("//")]


def build(code: str, directory: Path, text: int = TEXT) -> str:
    """The warnings of the oldest compiler, as ``image build`` calls it."""
    source = directory / "program.bpf.c"
    source.write_text(f"#define TEXT {text}\n{INCLUDES}{code}\n")
    return compile_with(each_clang()[0], source, directory / "o")


@pytest.mark.parametrize("code", sources("builds.c"), ids=range(len(sources("builds.c"))))
def test_it_builds_without_a_warning(code: str, tmp_path: Path) -> None:
    assert build(code, tmp_path) == ""


@pytest.mark.parametrize("code", sources("stack.c"), ids=list(RESERVED))
def test_a_program_keeps_its_stack(
    code: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    most = RESERVED[request.node.callspec.id]
    assert build(code, tmp_path, most) == ""


def test_a_function_that_nothing_declares_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"(implicit declaration of|undeclared) function"):
        build('SEC("tp/a/b") int p(void *ctx) { return undeclared(ctx); }', tmp_path)
