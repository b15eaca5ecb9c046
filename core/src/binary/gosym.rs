//! Functions of Go programs without a symbol table, by the line table that Go's runtime needs
//! (runtime/symtab.go: `pcHeader`, `functab`, `_func`).

use super::elf::{Cursor, Elf};
use super::{Bytes, Problem, Result};

pub const MAX_TABLE: usize = 64 << 20;
pub const MAX_FUNCTIONS: usize = 1_000_000;

const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Go 1.16: entries are addresses.
const MAGIC_16: u32 = 0xffff_fffa;
/// Go 1.18, and Go 1.20 and later: entries count from the start of the text.
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
    /// `text` is the address of the code if the table does not have it. None for an unknown
    /// version.
    fn parse(bytes: &'a [u8], text: u64) -> Result<Option<Table<'a>>> {
        let mut c = Cursor { bytes, wide: false };
        let magic = c.u32()?;
        let relative = match magic {
            MAGIC_16 => false,
            MAGIC_18 | MAGIC_20 => true,
            _ => return Ok(None),
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
        // Newer linkers write 0.
        let said = if relative { c.word()? } else { 0 };
        let names = place(c.word()?)?;
        let (_units, _file_table, _values) = (c.word()?, c.word()?, c.word()?);
        let entries = place(c.word()?)?;
        let text = if said == 0 { text } else { said };
        Ok(Some(Table { bytes, wide: c.wide, relative, functions, text, names, entries }))
    }

    fn cursor(&self, at: usize) -> Result<Cursor<'a>> {
        let bytes = self.bytes.get(at..).ok_or_else(short)?;
        Ok(Cursor { bytes, wide: self.wide && !self.relative })
    }

    /// Address of function number `i`, and the bytes from its name on.
    fn function(&self, i: usize) -> Result<(u64, &'a [u8])> {
        let size = if self.wide && !self.relative { 16 } else { 8 };
        let at = self.entries.checked_add(i * size).ok_or_else(short)?;
        let mut c = self.cursor(at)?;
        let (entry, facts) = (c.word()?, place(c.word()?)?);
        let mut c = self.cursor(self.entries.checked_add(facts).ok_or_else(short)?)?;
        let _entry = c.word()?;
        let name = self.names.checked_add(place(c.u32()?.into())?).ok_or_else(short)?;
        let name = self.bytes.get(name..).ok_or_else(short)?;
        let base = if self.relative { self.text } else { 0 };
        Ok((base.wrapping_add(entry), name))
    }

    fn find(&self, name: &str) -> Result<Option<u64>> {
        let wanted: Vec<u8> = name.bytes().chain([0]).collect();
        for i in 0..self.functions {
            let (address, found) = self.function(i)?;
            if found.starts_with(&wanted) {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }
}

/// The address of function `name` (`package.Function`); None when there is no such function, or the
/// version of the table is unknown.
pub fn find<B: Bytes + ?Sized>(elf: &Elf<'_, B>, name: &str) -> Result<Option<u64>> {
    let Some(section) = SECTIONS.iter().find_map(|s| elf.named(s)) else { return Ok(None) };
    let bytes = elf.content(section, MAX_TABLE)?;
    let text = elf.named(".text").map_or(0, |s| s.address);
    Ok(Table::parse(&bytes, text)?.map(|table| table.find(name)).transpose()?.flatten())
}

#[cfg(test)]
pub mod sample {
    use super::{MAGIC_16, MAGIC_20};

    pub const NAMES: [&str; 2] = ["main.main", "main.(*T).Add"];
    /// Where the programs' code begins, in memory and in the file.
    const CODE: u64 = 0x40_1000;
    pub const CODE_AT: usize = 0x1000;

    /// A table as Go 1.20 writes it (`text` in its header), or as Go 1.16.
    pub fn table(relative: bool, text: u64) -> Vec<u8> {
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

    /// A stripped program: its only names are those of `table`.
    pub fn program(table: &[u8]) -> Vec<u8> {
        let names = b"\0.text\0.gopclntab\0.shstrtab\0";
        let table_at = 2 * CODE_AT;
        let names_at = table_at + table.len();
        let sections_at = (names_at + names.len()).next_multiple_of(8);
        let mut file = b"\x7fELF\x02".to_vec();
        file.push(if cfg!(target_endian = "little") { 1 } else { 2 });
        file.resize(16, 1);
        let halves = |file: &mut Vec<u8>, of: &[u16]| {
            of.iter().for_each(|n| file.extend(n.to_ne_bytes()));
        };
        let words = |file: &mut Vec<u8>, of: &[u32]| {
            of.iter().for_each(|n| file.extend(n.to_ne_bytes()));
        };
        let longs = |file: &mut Vec<u8>, of: &[u64]| {
            of.iter().for_each(|n| file.extend(n.to_ne_bytes()));
        };
        halves(&mut file, &[2, 62, 1, 0]);
        longs(&mut file, &[CODE, 64, sections_at as u64]);
        halves(&mut file, &[0, 0, 64, 56, 1, 64, 4, 3]);
        // One segment, for reading and executing.
        words(&mut file, &[1, 5]);
        longs(&mut file, &[CODE_AT as u64, CODE, CODE, CODE_AT as u64, CODE_AT as u64, 4096]);
        file.resize(table_at, 0);
        file.extend(table);
        file.extend(names);
        file.resize(sections_at + 64, 0);
        for (name, kind, address, at, size) in [
            (1, 1, CODE, CODE_AT, CODE_AT),
            (7, 1, 0, table_at, table.len()),
            (18, 3, 0, names_at, names.len()),
        ] {
            words(&mut file, &[name, kind]);
            longs(&mut file, &[0, address, at as u64, size as u64, 0, 1, 0]);
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{program, table, CODE_AT, NAMES};
    use super::*;

    fn functions(bytes: &[u8], text: u64) -> Result<Vec<Option<u64>>> {
        let Some(table) = Table::parse(bytes, text)? else { return Ok(Vec::new()) };
        NAMES.iter().map(|name| table.find(name)).collect()
    }

    #[test]
    fn every_version() {
        for (what, bytes, base) in [
            ("1.20", table(true, 0x40_0000), 0x40_0000),
            ("without the text's start", table(true, 0), 0x7000),
            ("1.16", table(false, 0), 0),
        ] {
            let found = functions(&bytes, 0x7000).unwrap();
            assert_eq!(found, [Some(base + 0x100), Some(base + 0x200)], "{what}");
            let known = Table::parse(&bytes, 0x7000).unwrap().unwrap();
            for other in ["", "main", "main.mai", "main.main\0main", "T"] {
                assert_eq!(known.find(other), Ok(None), "{what}: {other:?}");
            }
        }
    }

    #[test]
    fn of_a_program() {
        let bytes = program(&table(true, 0));
        let elf = Elf::parse(&bytes[..]).unwrap();
        let address = find(&elf, "main.main").unwrap().unwrap();
        assert_eq!(elf.offset_of(address), Some(CODE_AT as u64 + 0x100));
        assert_eq!(find(&elf, "main.other"), Ok(None));
    }

    #[test]
    fn an_unknown_version_names_nothing() {
        let bytes = program(&[&[0; 4], &table(true, 0)[4..]].concat());
        assert_eq!(find(&Elf::parse(&bytes[..]).unwrap(), "main.main"), Ok(None));
    }

    #[test]
    fn damaged_ones_are_errors_or_name_the_same() {
        let whole = table(true, 1);
        let right = functions(&whole, 0).unwrap();
        let mut errors = 0;
        for length in 0..whole.len() {
            match functions(&whole[..length], 0) {
                Ok(found) => assert_eq!(found, right, "{length} bytes"),
                Err(_) => errors += 1,
            }
        }
        // The bytes behind the number of the last name are not read.
        assert!(errors > whole.len() - 16, "{errors} of {}", whole.len());
        for (at, what) in [(8, "functions"), (32, "names"), (64, "entries")] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&[0xff; 8]);
            assert!(functions(&bytes, 0).is_err(), "{what}");
        }
        let mut many = whole.clone();
        many[8..16].copy_from_slice(&(MAX_FUNCTIONS as u64 + 1).to_ne_bytes());
        assert!(functions(&many, 0).is_err());
    }
}
