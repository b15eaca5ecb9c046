//! The data plane: one sample in, rendered bytes out. No kernel, no Python.

pub mod array;
pub mod condition;
pub mod datasource;
pub mod dependencies;
pub mod filter;
pub mod metrics;
pub mod step;
pub mod steps;
