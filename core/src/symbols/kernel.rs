//! Names of kernel addresses.

use std::collections::HashMap;

use blazesym::symbolize::source::{Kernel as Addresses, Source};
use blazesym::symbolize::{Input, Symbolizer};
use blazesym::MaybeDefault;

/// Names that are remembered: events show a small part of the kernel's functions.
const MAX_NAMES: usize = 1 << 16;
const UNKNOWN: &str = "[unknown]";

#[derive(Default)]
pub struct Kernel {
    /// Made when the first name is asked for, since it reads all of /proc/kallsyms.
    symbolizer: Option<Isolated>,
    names: HashMap<u64, Box<str>>,
}

/// A symbolizer that one thread uses at a time.
pub struct Isolated(pub Symbolizer);

// SAFETY: its reference counts are not shared: results are copied before the borrow ends, and its
// owner is used by one thread at a time.
unsafe impl Send for Isolated {}

impl Isolated {
    pub fn new() -> Isolated {
        let builder = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_code_info(false)
            .enable_inlined_fns(false)
            .enable_demangling(false);
        Isolated(builder.build())
    }
}

impl Kernel {
    pub fn name(&mut self, address: u64, out: &mut Vec<u8>) {
        if let Some(name) = self.names.get(&address) {
            out.extend_from_slice(name.as_bytes());
            return;
        }
        let symbolizer = self.symbolizer.get_or_insert_with(Isolated::new);
        let source = Source::from(Addresses {
            kallsyms: MaybeDefault::Default,
            vmlinux: MaybeDefault::None,
            kaslr_offset: Some(0),
            debug_syms: false,
            ..Addresses::default()
        });
        let found = symbolizer.0.symbolize_single(&source, Input::AbsAddr(address)).ok();
        let name = found.as_ref().and_then(|s| s.as_sym()).map_or(UNKNOWN, |sym| &*sym.name);
        out.extend_from_slice(name.as_bytes());
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        self.names.insert(address, name.into());
    }
}
