//! Any bytes as a program with static probes: the sites lie inside of loaded segments.
#![no_main]

use _core::binary::elf::Elf;
use _core::binary::usdt;
use ig_py_core_fuzz::target;

target!(|data| {
    let Ok(elf) = Elf::parse(data) else { return };
    let Ok(sites) = usdt::find(&elf, "ours", "plain") else { return };
    assert!(sites.len() <= usdt::MAX_NOTES);
    for site in sites {
        let inside = |at: u64| elf.segments.iter().any(|s| at.wrapping_sub(s.offset) < s.file_size);
        assert!(inside(site.offset));
        assert!(site.semaphore == 0 || inside(site.semaphore));
    }
});
