//! Files that symbols may be read from.

use std::fs::Metadata;

/// Symbols of larger files are not read.
const MAX_FILE: u64 = 2 << 30;

pub fn is_readable(about: &Metadata) -> bool {
    about.is_file() && about.len() <= MAX_FILE
}
