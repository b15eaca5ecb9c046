//! Values to bytes: one file per form of output.

pub mod columns;
pub mod float;
pub mod json;
mod memo;
mod ordinary;
pub mod pcapng;
mod pcapng_blocks;
pub mod tree;
pub mod unicode;
pub mod yaml;
mod yaml_scalar;
