//! Symbols of the running kernel, read when the module first asks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

const PATH: &str = "/proc/kallsyms";
/// Far more than a kernel with many modules shows.
const MAX_BYTES: u64 = 256 << 20;

#[derive(Default)]
pub struct Symbols {
    /// How often a name occurs; None: not read yet.
    names: Option<HashMap<Box<str>, u32>>,
}

impl Symbols {
    /// True when exactly one symbol has this name.
    pub fn is_unique(&mut self, name: &str) -> Result<bool, String> {
        if self.names.is_none() {
            let file = File::open(PATH).map_err(|e| format!("opening {PATH}: {e}"))?;
            let counted = count(BufReader::with_capacity(1 << 16, file.take(MAX_BYTES)));
            self.names = Some(counted.map_err(|e| format!("reading {PATH}: {e}"))?);
        }
        Ok(self.names.as_ref().and_then(|n| n.get(name)) == Some(&1))
    }

    /// Frees the table.
    pub fn forget(&mut self) {
        self.names = None;
    }
}

/// Lines are `address type name`, of modules with `[module]` behind.
fn count(mut lines: impl BufRead) -> std::io::Result<HashMap<Box<str>, u32>> {
    let mut names: HashMap<Box<str>, u32> = HashMap::new();
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if let Some(name) = line.split_ascii_whitespace().nth(2) {
            *names.entry(name.into()).or_default() += 1;
        }
        line.clear();
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted() {
        let text = "0 t one\n0 T two\n0 t two\t[module]\n0 T three\t[other]\n\nbroken\n";
        let names = count(text.as_bytes()).unwrap();
        assert_eq!((names["one"], names["two"], names["three"], names.len()), (1, 2, 1, 3));
    }
}
