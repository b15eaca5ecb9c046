//! Functions of Go programs without a symbol table: the line table that their runtime
//! needs names them. (Go's runtime/symtab.go: `pcHeader`, `functab`, `_func`)

use super::elf::{Cursor, Elf};
use super::{text_at, Bytes, Problem, Result};

pub const MAX_TABLE: usize = 64 << 20;
pub const MAX_FUNCTIONS: usize = 1_000_000;
const MAX_NAME: usize = 4096;

const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Of Go 1.16; entries are addresses.
const MAGIC_16: u32 = 0xffff_fffa;
/// Of Go 1.18 and 1.20, and of later ones so far; entries count from the text's start.
const MAGIC_18: u32 = 0xffff_fff0;
const MAGIC_20: u32 = 0xffff_fff1;

struct Table<'a> {
    bytes: &'a [u8],
    wide: bool,
    relative: bool,
    functions: usize,
    text: u64,
    names: usize,
    entries: usize,
}

fn short() -> Problem {
    Problem::new("its Go line table is shorter than it says")
}

fn place(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| short())
}

impl<'a> Table<'a> {
    /// `text` is where the code begins when the table does not say it.
    fn parse(bytes: &'a [u8], text: u64) -> Result<Table<'a>> {
        let mut c = Cursor { bytes, wide: false };
        let magic = c.u32()?;
        let relative = match magic {
            MAGIC_16 => false,
            MAGIC_18 | MAGIC_20 => true,
            other => return Err(Problem::new(format!("a Go line table of version {other:#x}"))),
        };
        let (_pad, _quantum) = (c.u16()?, c.u8()?);
        c.wide = match c.u8()? {
            8 => true,
            4 => false,
            other => return Err(Problem::new(format!("Go pointers of {other} bytes"))),
        };
        let functions = place(c.word()?)?;
        if functions > MAX_FUNCTIONS {
            return Err(Problem::new(format!(
                "{functions} Go functions, at most {MAX_FUNCTIONS} are read"
            )));
        }
        let _files = c.word()?;
        // Newer linkers leave it empty.
        let said = if relative { c.word()? } else { 0 };
        let names = place(c.word()?)?;
        let (_units, _file_table, _values) = (c.word()?, c.word()?, c.word()?);
        let entries = place(c.word()?)?;
        let text = if said == 0 { text } else { said };
        Ok(Table { bytes, wide: c.wide, relative, functions, text, names, entries })
    }

    fn cursor(&self, at: usize) -> Result<Cursor<'a>> {
        let bytes = self.bytes.get(at..).ok_or_else(short)?;
        Ok(Cursor { bytes, wide: self.wide && !self.relative })
    }

    /// Address and name of the function number `i`.
    fn function(&self, i: usize) -> Result<(u64, &'a [u8])> {
        let size = if self.wide && !self.relative { 16 } else { 8 };
        let at = self.entries.checked_add(i * size).ok_or_else(short)?;
        let mut c = self.cursor(at)?;
        let (entry, facts) = (c.word()?, place(c.word()?)?);
        let mut c = self.cursor(self.entries.checked_add(facts).ok_or_else(short)?)?;
        let _entry = c.word()?;
        let name = self.names.checked_add(place(c.u32()?.into())?).ok_or_else(short)?;
        let name = text_at(self.bytes, name, MAX_NAME).ok_or_else(short)?;
        let base = if self.relative { self.text } else { 0 };
        Ok((base.wrapping_add(entry), name))
    }
}

/// The address of function `name` (`package.Function`); None when there is none.
pub fn find<B: Bytes + ?Sized>(elf: &Elf<'_, B>, name: &str) -> Result<Option<u64>> {
    let Some(section) = SECTIONS.iter().find_map(|s| elf.named(s)) else { return Ok(None) };
    let bytes = elf.content(section, MAX_TABLE)?;
    let text = elf.named(".text").map_or(0, |s| s.address);
    let table = Table::parse(&bytes, text)?;
    for i in 0..table.functions {
        let (address, found) = table.function(i)?;
        if found == name.as_bytes() {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["main.main", "main.(*T).Add"];

    /// A table as Go 1.20 writes it (`text` in its header), or as Go 1.16.
    fn table(relative: bool, text: u64) -> Vec<u8> {
        let magic = if relative { MAGIC_20 } else { MAGIC_16 };
        let mut bytes = magic.to_ne_bytes().to_vec();
        bytes.extend([0, 0, 1, 8]);
        let header = if relative { 72 } else { 64 };
        let names: Vec<u8> = NAMES.iter().flat_map(|n| n.bytes().chain([0])).collect();
        let entries = (header + names.len()).next_multiple_of(8);
        let words = [NAMES.len(), 1].into_iter();
        let words = words.chain(relative.then_some(text as usize));
        for word in words.chain([header, 0, 0, 0, entries]) {
            bytes.extend((word as u64).to_ne_bytes());
        }
        bytes.extend(names);
        bytes.resize(entries, 0);
        let size = if relative { 4 } else { 8 };
        let put = |bytes: &mut Vec<u8>, word: u64| bytes.extend(&word.to_ne_bytes()[..size]);
        let facts = 2 * size * NAMES.len() + size;
        for i in 0..NAMES.len() {
            put(&mut bytes, 0x100 * (i as u64 + 1));
            put(&mut bytes, (facts + 16 * i) as u64);
        }
        put(&mut bytes, 0x1000);
        let mut name = 0u32;
        for (i, text) in NAMES.iter().enumerate() {
            let start = bytes.len();
            put(&mut bytes, 0x100 * (i as u64 + 1));
            bytes.extend(name.to_ne_bytes());
            bytes.resize(start + 16, 0);
            name += text.len() as u32 + 1;
        }
        bytes
    }

    fn functions(bytes: &[u8], text: u64) -> Result<Vec<(u64, String)>> {
        let table = Table::parse(bytes, text)?;
        (0..table.functions)
            .map(|i| table.function(i).map(|(a, n)| (a, String::from_utf8_lossy(n).into_owned())))
            .collect()
    }

    #[test]
    fn every_version() {
        for (what, bytes, base) in [
            ("1.20", table(true, 0x40_0000), 0x40_0000),
            ("without the text's start", table(true, 0), 0x7000),
            ("1.16", table(false, 0), 0),
        ] {
            let found = functions(&bytes, 0x7000).unwrap();
            let wanted = [base + 0x100, base + 0x200].into_iter().zip(NAMES.map(String::from));
            assert_eq!(found, wanted.collect::<Vec<_>>(), "{what}");
        }
    }

    #[test]
    fn damaged_ones_are_errors() {
        let whole = table(true, 1);
        for length in 0..whole.len() {
            let _ = functions(&whole[..length], 0);
        }
        for at in (8..72).step_by(8) {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&[0xff; 8]);
            let _ = functions(&bytes, 0);
        }
        let mut many = whole.clone();
        many[8..16].copy_from_slice(&(MAX_FUNCTIONS as u64 + 1).to_ne_bytes());
        assert!(functions(&many, 0).is_err());
        assert!(functions(b"\0\0\0\0\0\0\0\0", 0).is_err());
    }
}
