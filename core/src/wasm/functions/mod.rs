//! The functions of the module `ig`, by group.

mod arrays;
mod config;
mod fields;
mod filter;
mod log;
mod maps;
mod perf;
mod sources;
mod symbols;
mod syscalls;

use super::engine::Linker;

pub type Registered = Result<(), wasmi::errors::LinkerError>;

pub fn register(linker: &mut Linker) -> Result<(), String> {
    for group in [
        log::register,
        sources::register,
        arrays::register,
        fields::register,
        config::register,
        maps::register,
        perf::register,
        symbols::register,
        syscalls::register,
        filter::register,
    ] {
        group(linker).map_err(|e| e.to_string())?;
    }
    Ok(())
}
