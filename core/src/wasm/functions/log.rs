//! gadgetLog, gadgetShouldLog.

use super::super::engine::{parts, Caller, Linker};
use super::super::log::LEVELS;
use super::super::memory;
use super::Registered;

pub fn register(linker: &mut Linker) -> Registered {
    linker
        .func_wrap("ig", "gadgetLog", |mut c: Caller<'_>, level: u32, message: u64| {
            let (memory, host) = parts(&mut c);
            if level >= LEVELS {
                return host.log.refuse("gadgetLog", &format!("unknown level {level}"));
            }
            match memory::bytes(memory, message) {
                Ok(bytes) => host.log.say(level, &String::from_utf8_lossy(bytes)),
                Err(why) => host.log.refuse("gadgetLog", why),
            }
        })?
        .func_wrap("ig", "gadgetShouldLog", |c: Caller<'_>, level: u32| -> u32 {
            u32::from(level < LEVELS && c.data().log.wants(level))
        })?;
    Ok(())
}
