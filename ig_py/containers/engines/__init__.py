"""The clients of container engines, and the containers that no engine knows.

``config`` (which engines are asked) · ``engine`` (what every client does, and what it reports) ·
``clients`` (all of them, and which answer) · ``docker*``, ``containerd*``, ``cri*``, ``podman`` ·
``unmanaged``, ``creation`` (containers of a runtime that was started without an engine).
"""
