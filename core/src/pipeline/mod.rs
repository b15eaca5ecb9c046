//! The data plane: one sample in, rendered bytes out. No kernel, no Python.

pub mod array;
pub mod condition;
pub mod datasource;
mod demand;
pub mod dependencies;
pub mod filter;
pub mod metrics;
pub mod step;
pub mod steps;
pub mod whole;
