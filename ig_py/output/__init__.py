"""Output: which mode each data source has, its columns, and how they are captured.

The core renders the bytes; this package decides what it renders
(docs/reference/cli.md#output-modes).
"""
