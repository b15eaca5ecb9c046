"""One costly sample in a process of its own: ``cost_child.py KIND PATH [METADATA]``.

Writes what became of it and its peak of memory in MiB as JSON.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]


def _peak_mib() -> float:
    found = re.search(r"^VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    from fuzz import gadgets

    from ig_py.errors import IgPyError

    kind, path, *more = sys.argv[1:]

    def said(err: IgPyError) -> str:
        return f"{type(err).__name__}: {err}"

    data = Path(path).read_bytes() if Path(path).is_file() else b""
    match kind:
        case "object":
            metadata = Path(more[0]).read_bytes() if more else b"name: x\n"
            end = gadgets.whole_way(gadgets.artifact(metadata, data), said)
        case "metadata":
            end = gadgets.documents(said)(data)
        case "module":
            end = gadgets.modules(said)(data)
        case "guest":
            from support.elf_writer import SIGNED
            from support.gadget_objects import tracer_object

            obj = tracer_object(lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)])
            end = gadgets.whole_way(gadgets.artifact(b"name: x\n", obj, data), said)
        case "image":
            from ig_py.oci.options import ResolveOptions
            from ig_py.resolver import resolve

            try:
                found = resolve(path, ResolveOptions(pull="never", verify_image=False))
                end = gadgets.whole_way(found, said)
            except IgPyError as err:
                end = said(err)
        case "import":
            from ig_py.oci.archive import import_images
            from ig_py.oci.store import Store

            try:
                end = f"{len(import_images(Path(path), Store.open(more[0])))} names"
            except IgPyError as err:
                end = said(err)
        case other:
            raise SystemExit(f"no kind {other!r}")
    # Not ru_maxrss of wait4(2), which counts what its parent had when it was started.
    print(json.dumps([end, _peak_mib()]))


if __name__ == "__main__":
    main()
