//! System calls: names, numbers and declarations.

use super::super::engine::{parts, Caller, Linker};
use super::super::host::{Host, Said};
use super::super::memory;
use super::Registered;
use crate::names;

pub fn register(linker: &mut Linker) -> Registered {
    linker
        .func_wrap("ig", "getSyscallName", |mut c: Caller<'_>, id: u32, dst: u64| -> u32 {
            let (memory, host) = parts(&mut c);
            let name = names::syscall_name(id as u16)
                .unwrap_or_else(|| format!("syscall_{:x}", id as u16));
            let done = memory::write(memory, dst, name.as_bytes()).map_err(String::from);
            host.status("getSyscallName", done)
        })?
        .func_wrap("ig", "getSyscallID", |mut c: Caller<'_>, name: u64| -> i32 {
            let (memory, host) = parts(&mut c);
            let found = number(memory, name);
            host.answer("getSyscallID", found, -1)
        })?
        .func_wrap(
            "ig",
            "getSyscallDeclaration",
            |mut c: Caller<'_>, name: u64, dst: u64| -> u32 {
                let (memory, host) = parts(&mut c);
                let done = declaration(memory, host, name, dst);
                host.status("getSyscallDeclaration", done)
            },
        )?;
    Ok(())
}

fn number(memory: &[u8], name: u64) -> Said<i32> {
    let name = memory::text(memory, name)?;
    let found = names::syscall_number(name).map(i32::from);
    found.ok_or_else(|| format!("there is no system call {name:?}"))
}

fn declaration(memory: &mut [u8], host: &Host, name: u64, dst: u64) -> Said<()> {
    let declared = host.declarations.of(memory::text(memory, name)?)?;
    Ok(memory::write(memory, dst, &declared)?)
}
