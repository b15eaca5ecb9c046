//! Any bytes as the kernel's message about an interface (containers choose names and kinds).
#![no_main]

use _core::bpf::links;
use ig_py_core_fuzz::target;

target!(|data| {
    let _ = links::interface(data);
});
