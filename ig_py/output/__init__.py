"""Output: which mode each data source has, its columns, and the writer of rendered bytes.

The bytes themselves are rendered by the core; here is decided what it renders
(docs/reference/cli.md#output-modes).
"""
