//! Values to bytes: one file an output form.

pub mod columns;
pub mod float;
pub mod json;
mod memo;
pub mod pcapng;
mod pcapng_blocks;
pub mod tree;
pub mod unicode;
pub mod yaml;
mod yaml_scalar;
