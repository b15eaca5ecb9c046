//! Files of a container that are read to name its stacks: no panic, and no more memory than the
//! limits allow. The first byte chooses the parser.
#![no_main]

use _core::symbols::{distill, parse_maps, PerfMap};
use ig_py_core_fuzz::target;

target!(|data| {
    let Some((parser, rest)) = data.split_first() else { return };
    match parser % 3 {
        0 => {
            if let Ok(distilled) = distill(rest) {
                let at = rest.first_chunk::<8>().map_or(0, |b| u64::from_ne_bytes(*b));
                let _ = distilled.address_of(at);
            }
        }
        1 => {
            let map = PerfMap::parse(rest);
            for address in [0, 0x1000, u64::MAX] {
                let _ = map.find(address);
            }
        }
        _ => {
            let maps = parse_maps(rest);
            assert!(maps.iter().all(|m| m.start < m.end));
            assert!(maps.windows(2).all(|w| w[0].start <= w[1].start));
        }
    }
});
