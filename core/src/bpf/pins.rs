//! Whether maps can be pinned.

use nix::sys::statfs::{statfs, BPF_FS_MAGIC};

const ROOT: &str = "/sys/fs/bpf";

/// True when a BPF file system is mounted at the path that libbpf uses.
pub fn possible() -> bool {
    statfs(ROOT).is_ok_and(|facts| facts.filesystem_type() == BPF_FS_MAGIC)
}
