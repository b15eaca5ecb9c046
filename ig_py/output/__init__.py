"""Output: which mode each data source has, its columns, and the writer of rendered bytes.

The bytes themselves are rendered by the core; here is decided what it renders
(spec cli-output §3).
"""
