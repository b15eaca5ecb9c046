"""Doubles for tests of gadgets and of what moves them: see :mod:`ig_py.testing.registry`."""
