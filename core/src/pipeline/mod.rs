//! The data plane: one sample in, rendered bytes out. No kernel, no Python.

pub mod array;
pub mod condition;
pub mod event;
pub mod field;
pub mod filter;
pub mod metrics;
pub mod need;
pub mod plan;
pub mod source;
pub mod step;
pub mod steps;
pub mod world;
