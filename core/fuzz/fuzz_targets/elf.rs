//! Any bytes as a container's program: no panic, and no more memory than the limits.
#![no_main]

use _core::binary::elf::Elf;
use _core::binary::{gosym, symbols};
use ig_py_core_fuzz::target;

target!(|data| {
    let Ok(elf) = Elf::parse(data) else { return };
    for section in &elf.sections {
        let _ = elf.content(section, 1 << 20);
    }
    let _ = (elf.named(".text"), elf.offset_of(0x1000), elf.offset_of(u64::MAX));
    if let Ok(Some(found)) = symbols::find(&elf, "main") {
        assert_eq!(found.name, b"main");
        assert_ne!(found.address, 0);
    }
    let _ = gosym::find(&elf, "main.main");
    if let Ok(found) = symbols::matching(&elf, "*a*") {
        assert!(found.len() <= symbols::MAX_MATCHES);
        assert!(found.windows(2).all(|w| w[0].address < w[1].address));
    }
});
