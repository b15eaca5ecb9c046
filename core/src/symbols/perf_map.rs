//! Functions that a just-in-time compiler lists in `/tmp/perf-<pid>.map`: lines of START SIZE NAME,
//! with hexadecimal numbers.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;

use crate::binary::root;

const MAX_SIZE: u64 = 64 << 20;
const MAX_FUNCTIONS: usize = 1 << 20;
const MAX_NAME: usize = 256;
/// Bytes of a line that are looked at: two numbers and a name.
const MAX_LINE: usize = MAX_NAME + 64;
const CHUNK: usize = 64 << 10;

/// Functions by address.
#[derive(Debug, Default)]
pub struct PerfMap {
    /// Start, end, and the range of the name in `names`.
    functions: Vec<(u64, u64, u32, u32)>,
    names: Vec<u8>,
}

impl PerfMap {
    /// The map of process `pid` (its pid in its own namespace) below the directory `root`.
    pub fn open(root: BorrowedFd<'_>, pid: u32) -> Option<PerfMap> {
        let file = root::open(root, &format!("/tmp/perf-{pid}.map")).ok()?;
        PerfMap::read(BufReader::with_capacity(CHUNK, file.take(MAX_SIZE))).ok()
    }

    /// Lines that cannot be parsed are skipped; of overlapping functions the last counts.
    pub fn parse(text: &[u8]) -> PerfMap {
        PerfMap::read(text).unwrap_or_default()
    }

    fn read(mut from: impl BufRead) -> io::Result<PerfMap> {
        let mut map = PerfMap::default();
        let mut line = Vec::with_capacity(MAX_LINE);
        for _ in 0..MAX_FUNCTIONS {
            line.clear();
            from.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            } else {
                from.skip_until(b'\n')?;
            }
            map.line(&line);
        }
        // Compilers often reuse the memory of older code.
        map.functions.reverse();
        map.functions.sort_by_key(|f| f.0);
        map.functions.dedup_by_key(|f| f.0);
        map.functions.shrink_to_fit();
        map.names.shrink_to_fit();
        Ok(map)
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.functions.capacity() * size_of::<(u64, u64, u32, u32)>() + self.names.capacity()
    }

    fn line(&mut self, line: &[u8]) -> Option<()> {
        let mut parts = line.splitn(3, |b| *b == b' ');
        let mut number = || {
            let text = std::str::from_utf8(parts.next()?).ok()?;
            u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        };
        let (start, size) = (number()?, number()?);
        let name = parts.next()?;
        let name = &name[..name.len().min(MAX_NAME)];
        let at = u32::try_from(self.names.len()).ok()?;
        self.names.extend_from_slice(name);
        self.functions.push((start, start.checked_add(size)?, at, name.len() as u32));
        Some(())
    }

    pub fn find(&self, address: u64) -> Option<&[u8]> {
        let after = self.functions.partition_point(|f| f.0 <= address);
        let (_, end, at, length) = *self.functions[..after].last()?;
        let name = self.names.get(at as usize..(at + length) as usize)?;
        (address < end).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_by_address() {
        let map = PerfMap::parse(
            b"1000 10 first\n0x2000 20 py::f:/x y.py\nbad\n1000 8 second\nffffffffffffffff 2 x\n",
        );
        assert_eq!(map.find(0x1007), Some(&b"second"[..]));
        assert_eq!(map.find(0x1008), None);
        assert_eq!(map.find(0x201f), Some(&b"py::f:/x y.py"[..]));
        assert_eq!(map.find(0), None);
        assert_eq!(PerfMap::parse(b"").find(1), None);
    }

    #[test]
    fn the_rest_of_a_long_line_is_no_line() {
        let long = [b"10 1 ", &[b'n'; MAX_LINE][..], b" 20 1 x\n30 1 last"].concat();
        let map = PerfMap::parse(&long);
        assert_eq!(map.find(0x10), Some(&[b'n'; MAX_NAME][..]));
        assert_eq!((map.find(0x20), map.find(0x30)), (None, Some(&b"last"[..])));
        assert!(map.size() < 1024, "{}", map.size());
    }
}
