//! Hash maps with numbers as keys, which are looked up for every event.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// For keys that a container cannot choose: inode numbers, generations, ids of named users.
#[derive(Default)]
pub struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        // An odd constant; the top bits, which hash maps use too, depend on all of n.
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

pub type ByNumber<K, V> = HashMap<K, V, BuildHasherDefault<Multiply>>;
