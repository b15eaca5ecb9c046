//! Symbols of the kernel.

use super::super::engine::{parts, Caller, Linker};
use super::super::memory;
use super::Registered;

pub fn register(linker: &mut Linker) -> Registered {
    linker.func_wrap("ig", "kallsymsSymbolExists", |mut c: Caller<'_>, name: u64| -> u32 {
        let (memory, host) = parts(&mut c);
        let found = memory::text(memory, name).map_err(String::from);
        let found = found.and_then(|name| host.symbols.is_unique(name)).map(u32::from);
        host.answer("kallsymsSymbolExists", found, 0)
    })?;
    Ok(())
}
