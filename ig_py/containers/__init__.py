"""Containers: which run on this host, and which mount and network namespaces are theirs.

What a container is: ``model`` (plain data) · ``selector`` (which ones) · ``collection`` (the live
set and its events) · ``kubelabels``, ``oci_bundle``, ``conmon`` (where names come from).

Where containers are found: ``sources`` (the list) · ``engines`` (clients of Docker, containerd,
CRI and podman, and containers without an engine) · ``cgroup_watch``, ``inits`` (which process is
init) · ``state_dirs``, ``runtime_state`` (what runc and crun write) · ``runtime_paths``,
``runtime_executions`` (executions of runtimes) · ``scout``, ``pending``, ``identify``,
``admission`` (new mount namespaces, as the kernel tells of them).

What is done with them: ``discovery`` (all sources together: ``descriptions``, ``init_facts``,
``live``) · ``filter_map``, ``stream_sync`` (which events pass, under which names) · ``targets``,
``target_sync`` (what programs are attached to) · ``exec_hold`` (--hold-containers) · ``tracker``
(all of it, for one command) · ``report`` (what is said of the sources).
"""
