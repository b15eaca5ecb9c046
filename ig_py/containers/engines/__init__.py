"""The clients of container engines, and the containers that no engine knows.

``client`` (what a client is and what it reports) · ``engine`` (connection, retries, listing) ·
``docker*``, ``containerd*``, ``cri*``, ``podman`` · ``unmanaged`` (containers of a runtime
that was started without an engine).
"""
