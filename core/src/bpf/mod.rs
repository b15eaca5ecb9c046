//! Everything that talks to libbpf and the kernel.

pub mod attach;
pub mod btf;
pub mod btf_add;
pub mod dispatch;
pub mod drain;
pub mod facts;
pub mod families;
pub mod held;
pub mod inode;
pub mod iterate;
pub mod links;
pub mod log;
pub mod map;
pub mod netns;
pub mod object;
pub mod offsets;
mod perf_buffer;
mod perf_probe;
mod pins;
pub mod probe;
pub mod reader;
pub mod ring;
pub mod scout;
pub mod sockets;
pub mod statistics;
pub mod tc;
pub mod user;
