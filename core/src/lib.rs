//! Native core of ig-py: libbpf loading, ring draining, decoding, rendering.
//! The contract with Python is `ig_py/_core.pyi`; without the feature `python`
//! this is a plain Rust library (tests, benchmarks, fuzzing).

pub mod binary;
pub mod bpf;
pub mod errors;
pub mod exec_hold;
mod fds;
pub mod names;
mod numbers;
pub mod pipeline;
#[cfg(feature = "python")]
mod python;
pub mod render;
pub mod schema;
pub mod stream;
pub mod symbols;

/// C headers for gadgets: libbpf's own and the eBPF API of this project.
pub mod embedded {
    include!(concat!(env!("OUT_DIR"), "/headers.rs"));

    /// core/sockets
    pub static SOCKETS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sockets.bpf.o"));
}
