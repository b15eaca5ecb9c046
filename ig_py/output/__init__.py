"""Output: which mode each data source has, its columns, and the writer of rendered bytes.

The core renders the bytes; this package decides what it renders
(docs/reference/cli.md#output-modes).
"""
