"""One header of several kernels' types, and sources that declare some of them for themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.compilers import compile_with, each_clang

from ig_py.toolchain import c_types, own_types, vmlinux

FIRST = """\
typedef unsigned int u32;

enum {
	A = 1,
};

enum color {
	RED = 1,
	GREEN = 2,
};

struct task {
	u32 pid;
};

struct event;

typedef int (*call_t)(struct event *);
"""
SECOND = """\
typedef unsigned long u32;

enum color {
	RED = 1,
	GREEN = 2,
	BLUE = 3,
};

enum {
	GREEN = 7,
	BLACK = 8,
};

struct task {
	u32 other;
};

union color;

typedef int call_t(int);

struct raw_module_load {
	struct task task;
	union color *color;
};
"""


def test_the_first_definition_is_taken_and_others_are_added() -> None:
    made = c_types.merged([FIRST, SECOND])
    assert made.startswith(FIRST.rstrip())
    added = made.removeprefix(FIRST.rstrip()).strip().split("\n\n")
    assert added == [
        "enum {\n\tGREEN___2 = 7,\n\tBLACK = 8,\n};",
        "union color___2;",
        "struct raw_module_load {\n\tstruct task task;\n\tunion color___2 *color;\n};",
    ]


def test_a_text_alone_stays_as_it_is() -> None:
    assert c_types.merged([SECOND]) == SECOND.replace("GREEN = 7", "GREEN___2 = 7").replace(
        "union color", "union color___2"
    )


def test_what_the_compiler_says_is_declared_twice() -> None:
    header = "struct a {\n};\nenum e {\n\tX = 1,\n};\ntypedef char name_t;\n"
    output = """\
p.c:2:8: error: redefinition of 'a'
/x/vmlinux.h:1:8: note: previous definition is here
p.c:3:3: error: redefinition of enumerator 'X'
/x/vmlinux.h:4:2: note: previous definition is here
p.c:4:3: error: typedef redefinition with different types ('int' vs 'char')
/x/vmlinux.h:6:14: note: previous definition is here
p.c:5:3: error: use of undeclared identifier 'y'
/x/vmlinux.h:1:8: note: previous definition is here
p.c:6:3: error: redefinition of 'z'
/x/vmlinux.h:999:8: note: previous definition is here
"""
    assert own_types.clashes(output, header) == {("struct", "a"), ("", "X"), ("", "name_t")}


OWN = """\
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct path { int mine; };
struct task_struct {
	int pid;
	struct task_struct *real_parent;
} __attribute__((preserve_access_index));
enum pid_type { PIDTYPE_PID = 7, OTHER };
typedef char pid_t;
union bpf_attr { int x; };
SEC("tp/a/b") int p(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct path path = {.mine = PIDTYPE_PID};

	bpf_probe_read_kernel(&path, sizeof(path), &((struct file *)ctx)->f_path);
	return BPF_CORE_READ(task, real_parent, pid) + path.mine;
}
"""


@pytest.mark.needs("clang")
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_a_source_may_declare_types_of_the_kernel(arch: str, tmp_path: Path) -> None:
    source = tmp_path / "program.bpf.c"
    source.write_text(OWN)
    assert compile_with(each_clang()[0], source, tmp_path / "o", arch) == ""


@pytest.mark.needs("clang")
@pytest.mark.parametrize("arch", vmlinux.ARCHITECTURES)
def test_types_of_subsystems_that_this_kernel_may_lack(arch: str, tmp_path: Path) -> None:
    source = tmp_path / "program.bpf.c"
    source.write_text(
        "#include <vmlinux.h>\nint f(struct trace_event_raw_module_load *m) { return m->taints; }\n"
    )
    assert compile_with(each_clang()[0], source, tmp_path / "o", arch) == ""
