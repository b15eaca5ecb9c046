//! Any bytes as the kernel's message about an interface (containers choose names and kinds).
#![no_main]

use _core::bpf::links;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = links::interface(data);
});
