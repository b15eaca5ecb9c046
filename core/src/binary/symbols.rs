//! Functions of an ELF file by name. The tables are read in pieces, so that their size does not
//! matter.

use super::elf::{Cursor, Elf, Section, SHT_DYNSYM, SHT_GNU_VERSYM, SHT_SYMTAB};
use super::{read, text_at, Bytes, Problem, Result};

/// The largest table in common binaries has some 200 000 entries.
pub const MAX_SYMBOLS: u64 = 10_000_000;
pub const MAX_TABLE: u64 = 240 << 20;
/// The largest string table in common binaries has 9 MiB.
pub const MAX_STRINGS: usize = 16 << 20;
pub const MAX_NAME: usize = 64 << 10;
/// Bytes of the names of one table together. Names may be parts of each other.
pub const MAX_NAMES: usize = 512 << 20;
/// The most functions that one pattern may match.
pub const MAX_MATCHES: usize = 10_000;

const CHUNK: usize = 1 << 16;
const STT_FUNC: u8 = 2;
const STB_LOCAL: u8 = 0;
const STB_WEAK: u8 = 2;
/// In .gnu.version: the symbol is not the default version.
const HIDDEN: u16 = 0x8000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: Vec<u8>,
    pub address: u64,
    pub size: u64,
    /// Lower is preferred, in the linker's order: global, weak, another version, local.
    rank: u8,
}

/// Calls `sink` with every function of a table that has an address and whose name `wanted` accepts;
/// an error of `sink` ends the walk.
fn walk<B: Bytes + ?Sized>(
    elf: &Elf<'_, B>,
    table: &Section,
    wanted: &dyn Fn(&[u8]) -> bool,
    sink: &mut dyn FnMut(Function) -> Result<()>,
) -> Result<()> {
    let entry: usize = if elf.wide { 24 } else { 16 };
    if table.entry != 0 && table.entry != entry as u64 {
        return Err(Problem::new(format!("symbols of {} bytes", table.entry)));
    }
    let count = table.size / entry as u64;
    if count > MAX_SYMBOLS || table.size > MAX_TABLE {
        return Err(Problem::new(format!("{count} symbols, at most {MAX_SYMBOLS} are read")));
    }
    let Some(strings) = elf.sections.get(table.link as usize) else {
        return Err(Problem::new("its symbols have no names"));
    };
    let strings = elf.content(strings, MAX_STRINGS)?;
    let versions = versions(elf, table, count)?;
    let per_chunk = (CHUNK / entry) as u64;
    let mut looked_at = 0;
    let mut first = 0;
    while first < count {
        let now = per_chunk.min(count - first);
        let at = table.offset.checked_add(first * entry as u64);
        let at = at.ok_or_else(|| Problem::new("its symbols are beyond its end"))?;
        let chunk = read(elf.source, at, now * entry as u64, CHUNK)?;
        for (i, bytes) in chunk.chunks_exact(entry).enumerate() {
            let Some((name_at, info, function)) = symbol(bytes, elf.wide)? else { continue };
            let name = text_at(&strings, name_at, MAX_NAME);
            looked_at += name.map_or(MAX_NAME, <[u8]>::len);
            if looked_at > MAX_NAMES {
                return Err(Problem::new(format!("names of more than {MAX_NAMES} bytes together")));
            }
            let Some(name) = name else { continue };
            if name.is_empty() || !wanted(name) {
                continue;
            }
            let hidden = versions
                .get((first as usize + i) * 2..)
                .and_then(|v| v.first_chunk::<2>())
                .is_some_and(|v| u16::from_ne_bytes(*v) & HIDDEN != 0);
            let rank = match info >> 4 {
                STB_LOCAL => 3,
                _ if hidden => 2,
                STB_WEAK => 1,
                _ => 0,
            };
            sink(Function { name: name.to_vec(), rank, ..function })?;
        }
        first += now;
    }
    Ok(())
}

/// A defined function: offset of its name, its binding and type, and its address.
fn symbol(bytes: &[u8], wide: bool) -> Result<Option<(usize, u8, Function)>> {
    let mut c = Cursor { bytes, wide };
    let name = c.u32()? as usize;
    let (info, section, address, size);
    if wide {
        info = c.u8()?;
        c.u8()?;
        section = c.u16()?;
        (address, size) = (c.word()?, c.word()?);
    } else {
        (address, size) = (c.word()?, c.word()?);
        info = c.u8()?;
        c.u8()?;
        section = c.u16()?;
    }
    let defined = section != 0 && address != 0 && info & 0xf == STT_FUNC;
    Ok(defined.then(|| (name, info, Function { name: Vec::new(), address, size, rank: 0 })))
}

fn versions<B: Bytes + ?Sized>(elf: &Elf<'_, B>, table: &Section, count: u64) -> Result<Vec<u8>> {
    if table.kind != SHT_DYNSYM {
        return Ok(Vec::new());
    }
    match elf.sections.iter().find(|s| s.kind == SHT_GNU_VERSYM) {
        // A damaged table of versions is ignored.
        Some(s) if s.size == count * 2 => elf.content(s, MAX_SYMBOLS as usize * 2),
        _ => Ok(Vec::new()),
    }
}

fn tables<'e, B: Bytes + ?Sized>(elf: &'e Elf<'_, B>) -> impl Iterator<Item = &'e Section> {
    let of = |kind: u32| elf.sections.iter().filter(move |s| s.kind == kind).take(1);
    of(SHT_SYMTAB).chain(of(SHT_DYNSYM))
}

/// Calls `sink` with every function of the file; an error of `sink` ends the walk.
pub fn each<B: Bytes + ?Sized>(
    elf: &Elf<'_, B>,
    sink: &mut dyn FnMut(Function) -> Result<()>,
) -> Result<()> {
    let mut outcome = Ok(());
    for table in tables(elf) {
        // The second table is read although the first is damaged.
        outcome = outcome.and(walk(elf, table, &|_| true, sink));
    }
    outcome
}

/// The function `name`; of several the one that the linker prefers. None when there is none.
pub fn find<B: Bytes + ?Sized>(elf: &Elf<'_, B>, name: &str) -> Result<Option<Function>> {
    for table in tables(elf) {
        let mut best: Option<Function> = None;
        walk(elf, table, &|found| found == name.as_bytes(), &mut |function| {
            if best.as_ref().is_none_or(|b| function.rank < b.rank) {
                best = Some(function);
            }
            Ok(())
        })?;
        if best.is_some() {
            return Ok(best);
        }
    }
    Ok(None)
}

/// Functions whose names match a pattern of `*` and `?`, each address once.
pub fn matching<B: Bytes + ?Sized>(elf: &Elf<'_, B>, pattern: &str) -> Result<Vec<Function>> {
    let mut found: Vec<Function> = Vec::new();
    for table in tables(elf) {
        walk(elf, table, &|name| glob(pattern.as_bytes(), name), &mut |function| {
            if found.len() >= MAX_MATCHES {
                return Err(Problem::new(format!("more than {MAX_MATCHES} functions match")));
            }
            found.push(function);
            Ok(())
        })?;
        if !found.is_empty() {
            break;
        }
    }
    found.sort_by(|a, b| (a.address, a.rank, &a.name).cmp(&(b.address, b.rank, &b.name)));
    found.dedup_by_key(|f| f.address);
    Ok(found)
}

/// True when all of `name` matches `pattern`. Takes at most the product of their lengths.
pub fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::super::FileBytes;
    use super::*;
    use std::fs::File;

    fn this() -> FileBytes {
        FileBytes::new(File::open("/proc/self/exe").unwrap()).unwrap()
    }

    #[test]
    fn patterns() {
        for (pattern, name, holds) in [
            ("SSL_*", "SSL_read", true),
            ("*", "", true),
            ("SSL_?ead", "SSL_read", true),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbxc", false),
            ("SSL_", "SSL_read", false),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), holds, "{pattern} {name}");
        }
    }

    #[test]
    fn functions_of_this_very_program() {
        let file = this();
        let elf = Elf::parse(&file).unwrap();
        let main = find(&elf, "main").unwrap().expect("a test program has one");
        let offset = elf.offset_of(main.address).unwrap();
        assert!(offset > 0 && offset < file.size());
        assert_eq!(find(&elf, "no_such_function_4711").unwrap(), None);
        let all = matching(&elf, "mai?").unwrap();
        assert!(all.iter().any(|f| f.address == main.address));
    }

    #[test]
    fn a_pattern_that_matches_too_much() {
        let file = this();
        let elf = Elf::parse(&file).unwrap();
        let all = matching(&elf, "*");
        assert!(all.is_err() || all.unwrap().len() <= MAX_MATCHES);
    }

    #[test]
    fn the_version_that_programs_link_to_is_preferred() {
        // main: global in both tables; alpha: a hidden version in .dynsym.
        const WHOLE: &[u8] = include_bytes!("../../fuzz/seeds-elf/whole");
        let elf = Elf::parse(WHOLE).unwrap();
        let found: Vec<_> = matching(&elf, "*a*").unwrap().into_iter().map(|f| f.address).collect();
        assert_eq!(found, [0x1010, 0x1020, 0x1030]);
        assert_eq!(find(&elf, "omega").unwrap().map(|f| (f.address, f.rank)), Some((0x1030, 1)));
        for length in 0..WHOLE.len() {
            let _ = Elf::parse(&WHOLE[..length]).and_then(|elf| find(&elf, "main"));
        }
    }

    #[test]
    fn names_that_are_parts_of_each_other_are_limited_together() {
        const WHOLE: &[u8] = include_bytes!("../../fuzz/seeds-elf/whole");
        let count = MAX_NAMES / MAX_NAME + 1;
        // Of one function: its name, binding and type, section and address (elf(5)).
        let mut symbol = [0; 24];
        (symbol[0], symbol[4], symbol[6], symbol[8]) = (1, STT_FUNC, 1, 1);
        let mut bytes = symbol.repeat(count);
        bytes.resize(bytes.len() + 2 * MAX_NAME, b'n');
        let mut elf: Elf<'_, [u8]> = Elf::parse(WHOLE).unwrap();
        elf.source = &bytes;
        elf.sections.retain(|s| s.kind == SHT_SYMTAB);
        let mut names = elf.sections[0].clone();
        let size = (24 * count) as u64;
        (names.kind, names.offset, names.size) = (3, size, 2 * MAX_NAME as u64);
        (elf.sections[0].offset, elf.sections[0].size, elf.sections[0].link) = (0, size, 1);
        elf.sections.push(names);
        assert!(find(&elf, "main").unwrap_err().0.contains("together"));
    }

    #[test]
    fn tables_beyond_the_limits_cost_nothing() {
        const WHOLE: &[u8] = include_bytes!("../../fuzz/seeds-elf/whole");
        let mut elf = Elf::parse(WHOLE).unwrap();
        for section in &mut elf.sections {
            section.size = u64::MAX / 2;
        }
        assert!(find(&elf, "main").is_err());
        let mut elf = Elf::parse(WHOLE).unwrap();
        for section in &mut elf.sections {
            section.offset = u64::MAX - 8;
        }
        assert!(find(&elf, "main").is_err());
    }
}
