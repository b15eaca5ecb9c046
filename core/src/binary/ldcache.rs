//! `/etc/ld.so.cache`: the file of a library such as `ssl`. Both formats of glibc are read, and the
//! file that contains both (`ldconfig --format=compat`).

use super::{text_at, Problem, Result};

pub const MAX_SIZE: usize = 16 << 20;
/// Files that one library name may have.
pub const MAX_FOUND: usize = 64;
pub const MAX_PATH: usize = 4096;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Magic with its padding, number of entries.
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
/// Magic, number of entries, length of the strings, flags, extension offset, unused.
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;

/// One list of entries. The formats differ in what offsets of keys and paths are relative to.
struct List<'a> {
    entries: &'a [u8],
    entry: usize,
    /// Position of the key's offset in an entry; the path's offset follows.
    key_at: usize,
    texts: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_ne_bytes(*word)).ok()
}

/// `count` entries from `at` on, if the file has all of them.
fn entries(bytes: &[u8], at: usize, count: usize, entry: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(count.checked_mul(entry)?)?)
}

fn new_list(bytes: &[u8]) -> Option<List<'_>> {
    let count = u32_at(bytes, NEW_MAGIC.len())?;
    Some(List {
        entries: entries(bytes, NEW_HEADER, count, NEW_ENTRY)?,
        entry: NEW_ENTRY,
        key_at: 4,
        texts: bytes,
    })
}

fn lists(bytes: &[u8]) -> Result<List<'_>> {
    let short = || Problem::new("the library cache is shorter than its entries");
    if bytes.starts_with(NEW_MAGIC) {
        return new_list(bytes).ok_or_else(short);
    }
    if !bytes.starts_with(OLD_MAGIC) {
        return Err(Problem::new("the library cache has an unknown format"));
    }
    let count = u32_at(bytes, OLD_HEADER - 4).ok_or_else(short)?;
    let old = entries(bytes, OLD_HEADER, count, OLD_ENTRY).ok_or_else(short)?;
    let end = OLD_HEADER + old.len();
    // The new format follows the old entries, aligned; its offsets are relative to its start.
    let new = bytes.get(end.next_multiple_of(8)..).filter(|b| b.starts_with(NEW_MAGIC));
    if let Some(new) = new {
        return new_list(new).ok_or_else(short);
    }
    Ok(List { entries: old, entry: OLD_ENTRY, key_at: 4, texts: &bytes[end..] })
}

/// Paths of the library `name` (`ssl` matches `ssl.so.3`), as the cache lists them.
pub fn find(bytes: &[u8], name: &str) -> Result<Vec<String>> {
    if bytes.len() > MAX_SIZE {
        return Err(Problem::new(format!("the library cache has {} bytes", bytes.len())));
    }
    let list = lists(bytes)?;
    let wanted = format!("{name}.so");
    let mut found: Vec<String> = Vec::new();
    for entry in list.entries.chunks_exact(list.entry) {
        let (Some(key), Some(path)) = (u32_at(entry, list.key_at), u32_at(entry, list.key_at + 4))
        else {
            continue;
        };
        // No more bytes than the name has: all entries may have the same long key.
        let Some(start) = list.texts.get(key..).and_then(|t| t.get(..wanted.len())) else {
            continue;
        };
        if start != wanted.as_bytes() {
            continue;
        }
        let path = text_at(list.texts, path, MAX_PATH).and_then(|t| std::str::from_utf8(t).ok());
        let Some(path) = path.filter(|p| p.starts_with('/')) else { continue };
        if !found.iter().any(|f| f == path) {
            found.push(path.to_string());
        }
        if found.len() == MAX_FOUND {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARIES: [(&str, &str); 3] =
        [("libc.so.6", "/lib/libc.so.6"), ("libssl.so.3", "/a"), ("libssl.so.1.1", "/b")];

    fn new_format() -> Vec<u8> {
        let mut bytes = NEW_MAGIC.to_vec();
        bytes.extend((LIBRARIES.len() as u32).to_ne_bytes());
        bytes.resize(NEW_HEADER, 0);
        let mut texts = Vec::new();
        let start = NEW_HEADER + LIBRARIES.len() * NEW_ENTRY;
        for (key, path) in LIBRARIES {
            bytes.extend(1u32.to_ne_bytes());
            for text in [key, path] {
                bytes.extend(((start + texts.len()) as u32).to_ne_bytes());
                texts.extend(text.as_bytes());
                texts.push(0);
            }
            bytes.extend([0; 12]);
        }
        bytes.extend(texts);
        bytes
    }

    fn old_format(with_texts: bool) -> Vec<u8> {
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.push(0);
        bytes.extend((LIBRARIES.len() as u32).to_ne_bytes());
        let mut texts = Vec::new();
        for (key, path) in LIBRARIES {
            bytes.extend(1u32.to_ne_bytes());
            for text in [key, path] {
                bytes.extend((texts.len() as u32).to_ne_bytes());
                texts.extend(text.as_bytes());
                texts.push(0);
            }
        }
        if with_texts {
            bytes.extend(texts);
        }
        bytes
    }

    fn combined() -> Vec<u8> {
        let mut bytes = old_format(false);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(new_format());
        bytes
    }

    #[test]
    fn every_format() {
        for (what, bytes) in
            [("new", new_format()), ("old", old_format(true)), ("both", combined())]
        {
            assert_eq!(find(&bytes, "libssl").unwrap(), ["/a", "/b"], "{what}");
            assert_eq!(find(&bytes, "libc").unwrap(), ["/lib/libc.so.6"], "{what}");
            assert_eq!(find(&bytes, "libz").unwrap(), Vec::<String>::new(), "{what}");
        }
    }

    #[test]
    fn damaged_ones_are_errors_or_empty() {
        assert!(find(b"", "libc").is_err());
        assert!(find(b"something else", "libc").is_err());
        for whole in [new_format(), old_format(true), combined()] {
            for length in 0..whole.len() {
                let _ = find(&whole[..length], "libc");
            }
        }
        let mut many = new_format();
        many[NEW_MAGIC.len()..NEW_MAGIC.len() + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(find(&many, "libc").is_err());
    }

    #[test]
    fn the_cache_of_this_machine() {
        let Ok(bytes) = std::fs::read("/etc/ld.so.cache") else { return };
        let found = find(&bytes, "libc").unwrap();
        assert!(found.iter().any(|p| p.ends_with("/libc.so.6")), "{found:?}");
    }
}
