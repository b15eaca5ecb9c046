//! Native core of ig-py: it loads eBPF objects with libbpf, and reads, decodes and renders events.
//! Its interface for Python is declared in `ig_py/_core.pyi`; without the feature `python` this is
//! a plain Rust library (tests, benchmarks, fuzzing).

pub mod binary;
pub mod bpf;
pub mod errors;
pub mod exec_hold;
mod fds;
pub mod names;
mod numbers;
pub mod output;
pub mod pipeline;
#[cfg(feature = "python")]
mod python;
pub mod render;
pub mod schema;
pub mod stream;
pub mod symbols;
pub mod wasm;

/// C headers for gadgets: libbpf's own and the eBPF API of this project.
pub mod embedded {
    include!(concat!(env!("OUT_DIR"), "/headers.rs"));

    /// The eBPF object of core/sockets.
    pub static SOCKETS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sockets.bpf.o"));
}
