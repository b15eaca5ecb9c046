//! A file's functions as a small ELF file in memory, for blazesym.

use std::fs::File;
use std::io::{self, Write};

use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};

use crate::binary::elf::{Elf, Segment};
use crate::binary::{symbols, Bytes, Problem, Result};

/// Functions of one file that are read.
const MAX_FUNCTIONS: usize = 2_000_000;
/// Bytes of all names together; each is cut at `MAX_NAME`.
const MAX_NAMES: usize = 128 << 20;
const MAX_NAME: usize = 256;

const HEADER: u64 = 64;
const SECTION: u64 = 64;
const SYMBOL: u64 = 24;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
/// A global function.
const INFO: u8 = 1 << 4 | 2;
/// Names of the sections, which begin at 1, 9 and 17.
const SECTION_NAMES: &[u8] = b"\0.symtab\0.strtab\0.shstrtab\0";

/// A sealed file in memory, which has no name in a file system.
pub struct Distilled {
    pub file: File,
    pub size: usize,
    segments: Vec<Segment>,
}

impl Distilled {
    /// The address that the file's symbols use for the byte at `offset`.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        self.segments.iter().filter(|s| s.executable).find_map(|s| {
            let inside = offset.checked_sub(s.offset)?;
            (inside < s.file_size).then(|| s.address.checked_add(inside)).flatten()
        })
    }
}

/// Reads the symbols of an ELF file, which may be damaged or hostile.
pub fn distill<B: Bytes + ?Sized>(source: &B) -> Result<Distilled> {
    distill_with(source, true, None::<&B>)
}

/// Reads the symbols of `apart`, a separate file of debug information, and with `own` also those
/// of `source`.
pub fn distill_with<B: Bytes + ?Sized, A: Bytes + ?Sized>(
    source: &B,
    own: bool,
    apart: Option<&A>,
) -> Result<Distilled> {
    let elf = Elf::parse(source)?;
    let (mut table, mut names) = (vec![0; SYMBOL as usize], vec![0]);
    let mut add = |function: symbols::Function| {
        let name = &function.name[..function.name.len().min(MAX_NAME)];
        if table.len() / SYMBOL as usize >= MAX_FUNCTIONS || names.len() + name.len() > MAX_NAMES {
            return Err(Problem::new("more symbols than are read"));
        }
        table.extend_from_slice(&(names.len() as u32).to_ne_bytes());
        // Any section number but 0: it only says that the symbol is defined.
        table.extend_from_slice(&[INFO, 0, 1, 0]);
        table.extend_from_slice(&function.address.to_ne_bytes());
        table.extend_from_slice(&function.size.to_ne_bytes());
        names.extend_from_slice(name);
        names.push(0);
        Ok(())
    };
    if let Some(apart) = apart {
        // The file's own symbols are read although those of `apart` are damaged.
        let read = Elf::parse(apart).and_then(|elf| symbols::each(&elf, &mut add));
        if !own {
            read?;
        }
    }
    if own {
        symbols::each(&elf, &mut add)?;
    }
    let size = table.len() + names.len();
    let file = memory_file().and_then(|file| write(file, &table, &names))?;
    Ok(Distilled { file, size, segments: elf.segments })
}

fn memory_file() -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(memfd_create(c"symbols", flags)?.into())
}

fn write(mut file: File, table: &[u8], names: &[u8]) -> io::Result<File> {
    let table_at = HEADER;
    let names_at = table_at + table.len() as u64;
    let section_names_at = names_at + names.len() as u64;
    let sections_at = (section_names_at + SECTION_NAMES.len() as u64).next_multiple_of(8);
    let data = if cfg!(target_endian = "little") { 1 } else { 2 };

    let mut head = vec![0x7f, b'E', b'L', b'F', 2, data, 1];
    head.resize(16, 0);
    // Type (shared object), machine (none), version.
    head.extend_from_slice(&3u16.to_ne_bytes());
    head.extend_from_slice(&0u16.to_ne_bytes());
    head.extend_from_slice(&1u32.to_ne_bytes());
    for word in [0, 0, sections_at] {
        head.extend_from_slice(&word.to_ne_bytes());
    }
    head.extend_from_slice(&0u32.to_ne_bytes());
    for half in [HEADER as u16, 56, 0, SECTION as u16, 4, 3] {
        head.extend_from_slice(&half.to_ne_bytes());
    }
    file.write_all(&head)?;
    file.write_all(table)?;
    file.write_all(names)?;
    file.write_all(SECTION_NAMES)?;
    let gap = sections_at - section_names_at - SECTION_NAMES.len() as u64;
    file.write_all(&[0; 8][..gap as usize])?;

    let strings = SECTION_NAMES.len() as u64;
    let mut sections = vec![0u8; SECTION as usize];
    sections.extend(section(1, SHT_SYMTAB, table_at, table.len() as u64, 2, SYMBOL));
    sections.extend(section(9, SHT_STRTAB, names_at, names.len() as u64, 0, 0));
    sections.extend(section(17, SHT_STRTAB, section_names_at, strings, 0, 0));
    file.write_all(&sections)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

fn section(name: u32, kind: u32, at: u64, size: u64, link: u32, entry: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTION as usize);
    bytes.extend_from_slice(&name.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    for word in [0, 0, at, size] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(&link.to_ne_bytes());
    // The first global symbol.
    bytes.extend_from_slice(&1u32.to_ne_bytes());
    for word in [1, entry] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}
