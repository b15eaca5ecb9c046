//! Static probes: the notes that `sys/sdt.h` leaves in a binary.

use super::elf::{Cursor, Elf};
use super::{text_at, Bytes, Problem, Result};

pub const MAX_NOTES: usize = 10_000;
/// The declared size of a note's name or description.
pub const MAX_FIELD: usize = 1 << 20;
pub const MAX_SECTION: usize = 16 << 20;
pub const MAX_TEXT: usize = 4096;

const SECTION: &str = ".note.stapsdt";
const BASE: &str = ".stapsdt.base";
const NOTE_NAME: &[u8] = b"stapsdt\0";
const NOTE_TYPE: u32 = 3;

/// One site of a probe, as offsets in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub offset: u64,
    /// The semaphore that counts the probe's users; 0 when it has none.
    pub semaphore: u64,
}

/// Every site of probe `provider:name`, in the order of the notes.
pub fn find<B: Bytes + ?Sized>(elf: &Elf<'_, B>, provider: &str, name: &str) -> Result<Vec<Site>> {
    let Some(section) = elf.named(SECTION) else { return Ok(Vec::new()) };
    let content = elf.content(section, MAX_SECTION)?;
    let base = elf.named(BASE).map(|s| s.address);
    let mut sites = Vec::new();
    let mut rest = &content[..];
    for _ in 0..MAX_NOTES {
        if rest.is_empty() {
            return Ok(sites);
        }
        let (note, after) = note(rest)?;
        rest = after;
        let Some(description) = note else { continue };
        if let Some(site) = site(elf, description, base, provider, name)? {
            if !sites.contains(&site) {
                sites.push(site);
            }
        }
    }
    Err(Problem::new(format!("more than {MAX_NOTES} notes in {SECTION}")))
}

/// The first note of `bytes`: its description if it is that of a probe, and the bytes behind it.
#[allow(clippy::type_complexity)]
fn note(bytes: &[u8]) -> Result<(Option<&[u8]>, &[u8])> {
    let mut c = Cursor { bytes, wide: false };
    let (name_size, size, kind) = (c.u32()? as usize, c.u32()? as usize, c.u32()?);
    if name_size > MAX_FIELD || size > MAX_FIELD {
        return Err(Problem::new(format!("a note of {name_size} and {size} bytes")));
    }
    let end = || Problem::new("a note reaches beyond its section");
    let name_end = name_size.next_multiple_of(4);
    let name = c.bytes.get(..name_size).ok_or_else(end)?;
    let rest = c.bytes.get(name_end..).ok_or_else(end)?;
    let description = rest.get(..size).ok_or_else(end)?;
    // The last note may lack its padding.
    let after = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
    Ok(((kind == NOTE_TYPE && name == NOTE_NAME).then_some(description), after))
}

fn site<B: Bytes + ?Sized>(
    elf: &Elf<'_, B>,
    description: &[u8],
    base: Option<u64>,
    provider: &str,
    name: &str,
) -> Result<Option<Site>> {
    let mut c = Cursor { bytes: description, wide: elf.wide };
    let (location, linked_base, semaphore) = (c.word()?, c.word()?, c.word()?);
    let unended = || Problem::new("a probe's name does not end");
    let found_provider = text_at(c.bytes, 0, MAX_TEXT).ok_or_else(unended)?;
    let found_name = text_at(c.bytes, found_provider.len() + 1, MAX_TEXT).ok_or_else(unended)?;
    if found_provider != provider.as_bytes() || found_name != name.as_bytes() {
        return Ok(None);
    }
    // prelink(8) moves the section, but does not change the addresses in the notes.
    let moved = base.map_or(0, |b| b.wrapping_sub(linked_base));
    let place = |address: u64| elf.offset_of(address.wrapping_add(moved));
    let Some(offset) = place(location) else {
        return Err(Problem::new("a probe lies outside of what is loaded"));
    };
    let semaphore = match semaphore {
        0 => 0,
        address => place(address)
            .ok_or_else(|| Problem::new("a probe's semaphore lies outside of what is loaded"))?,
    };
    Ok(Some(Site { offset, semaphore }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one probe, at address 0x1010 with its semaphore at 0x1040, loaded from
    /// the file's start on at 0x1000.
    const WHOLE: &[u8] = include_bytes!("../../fuzz/seeds-usdt/whole");
    const NOTE_SIZES: &[u8] = b"\x08\0\0\0\x2b\0\0\0\x03\0\0\0stapsdt\0";

    fn found(bytes: &[u8], name: &str) -> Result<Vec<Site>> {
        find(&Elf::parse(bytes)?, "ours", name)
    }

    fn sizes_at() -> usize {
        WHOLE.windows(NOTE_SIZES.len()).position(|w| w == NOTE_SIZES).expect("its note")
    }

    #[test]
    fn places_are_offsets_in_the_file() {
        let sites = found(WHOLE, "plain").unwrap();
        assert_eq!(sites, [Site { offset: 0x10, semaphore: 0x40 }]);
        assert_eq!(found(WHOLE, "other").unwrap(), []);
    }

    #[test]
    fn notes_that_lie_about_their_size() {
        let at = sizes_at();
        for (place, size) in [(0, u32::MAX), (4, u32::MAX), (4, 0x10_0000), (4, 8), (4, 24)] {
            let mut bytes = WHOLE.to_vec();
            bytes[at + place..at + place + 4].copy_from_slice(&size.to_ne_bytes());
            assert!(found(&bytes, "plain").is_err(), "{place} {size:#x}");
        }
    }

    #[test]
    fn truncated_files_end_the_search() {
        for length in 0..WHOLE.len() {
            let _ = found(&WHOLE[..length], "plain");
        }
    }

    #[test]
    fn a_probe_outside_of_what_is_loaded() {
        let at = sizes_at() + NOTE_SIZES.len();
        let mut bytes = WHOLE.to_vec();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert!(found(&bytes, "plain").is_err());
    }
}
