//! The filter by mount namespace.

use super::super::engine::{parts, Caller, Linker};
use super::Registered;

pub fn register(linker: &mut Linker) -> Registered {
    linker.func_wrap("ig", "shouldDiscardMntnsID", |mut c: Caller<'_>, mntns: u64| -> u32 {
        let (_, host) = parts(&mut c);
        let Some(filter) = &host.filter else { return 0 };
        match filter.lookup(&mntns.to_ne_bytes()) {
            Ok(found) => u32::from(found.is_none()),
            Err(e) => {
                host.log.refuse("shouldDiscardMntnsID", &e.message);
                1
            }
        }
    })?;
    Ok(())
}
