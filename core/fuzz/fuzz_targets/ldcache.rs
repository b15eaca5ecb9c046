//! Any bytes as /etc/ld.so.cache: few, absolute, different paths, or an error.
#![no_main]

use _core::binary::ldcache;
use ig_py_core_fuzz::target;

target!(|data| {
    let Ok(found) = ldcache::find(data, "libc") else { return };
    assert!(found.len() <= ldcache::MAX_FOUND);
    for (i, path) in found.iter().enumerate() {
        assert!(path.starts_with('/') && path.len() <= ldcache::MAX_PATH);
        assert!(!found[..i].contains(path));
    }
});
