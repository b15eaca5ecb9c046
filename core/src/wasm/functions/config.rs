//! Parameters and configuration.

use super::super::engine::{parts, Caller, Linker};
use super::super::host::{Host, Said};
use super::super::kinds::Kind;
use super::super::memory;
use super::Registered;

pub fn register(linker: &mut Linker) -> Registered {
    linker
        .func_wrap("ig", "getParamValue", |mut c: Caller<'_>, key: u64, dst: u64| -> u32 {
            let (memory, host) = parts(&mut c);
            let done = param(memory, host, key, dst);
            host.status("getParamValue", done)
        })?
        .func_wrap(
            "ig",
            "setConfig",
            |mut c: Caller<'_>, key: u64, value: u64, kind: u32| -> u32 {
                let (memory, host) = parts(&mut c);
                let done = set_config(memory, host, key, value, kind);
                host.status("setConfig", done)
            },
        )?;
    Ok(())
}

fn param(memory: &mut [u8], host: &Host, key: u64, dst: u64) -> Said<()> {
    let key = memory::text(memory, key)?;
    let value = host.params.get(key).ok_or_else(|| format!("no parameter {key:?}"))?;
    Ok(memory::write(memory, dst, value.as_bytes())?)
}

fn set_config(memory: &[u8], host: &mut Host, key: u64, value: u64, kind: u32) -> Said<()> {
    if Kind::of(kind) != Some(Kind::String) {
        return Err(format!("kind {kind} is not String"));
    }
    host.model.configure(memory::text(memory, key)?, memory::text(memory, value)?)
}
