"""Images: references, the local store, registries, archives.

:func:`ig_py.resolver.resolve` turns what a user typed into an
:class:`~ig_py.oci.artifact.Artifact` whose every byte has been checked.
"""
