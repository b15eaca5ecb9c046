"""What ``image inspect`` shows of an image, without loading it into a kernel.

``disasm`` (instructions) · ``program_graph`` (which program uses which map) · ``extra_info``
(the values of ``--extra-info``) · ``jsonpath`` and ``render`` (output forms) · ``docs``
(the diagrams of DEVELOPER.md) · ``wasm_imports``.
"""
