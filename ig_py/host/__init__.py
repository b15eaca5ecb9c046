"""The machine that ig-py runs on, as the kernel shows it.

``proc`` (the host's /proc, below HOST_ROOT) · ``cgroup_paths`` · ``files`` (small kernel files) ·
``safe_open`` (files that others can name or make), on ``openat2`` and ``bounded`` ·
``inotify`` · ``reactor`` (one thread over descriptors and timers) · ``tracefs``, ``bpffs``,
``private_mount`` (file systems for tracing) · ``architecture``.
"""
