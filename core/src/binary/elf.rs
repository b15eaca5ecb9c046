//! The parts of ELF files that probes need: sections, segments, and the file offset of an address
//! (System V ABI, "Object Files"; elf(5)).

use super::{read, Bytes, Problem, Result};

pub const MAX_SECTIONS: usize = 1 << 16;
pub const MAX_SEGMENTS: usize = 1 << 10;
/// Bytes of all section names; common binaries have some hundred.
pub const MAX_SECTION_NAMES: usize = 1 << 20;

pub const SHT_SYMTAB: u32 = 2;
pub const SHT_NOBITS: u32 = 8;
pub const SHT_DYNSYM: u32 = 11;
pub const SHT_GNU_VERSYM: u32 = 0x6fff_ffff;
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;
const ELFCLASS32: u8 = 1;
const ELFCLASS64: u8 = 2;
const NATIVE: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };

#[derive(Clone, Debug)]
pub struct Section {
    pub name: u32,
    pub kind: u32,
    pub address: u64,
    pub offset: u64,
    pub size: u64,
    pub link: u32,
    pub entry: u64,
}

#[derive(Clone, Debug)]
pub struct Segment {
    pub executable: bool,
    pub offset: u64,
    pub address: u64,
    pub file_size: u64,
}

pub struct Elf<'a, B: Bytes + ?Sized> {
    pub source: &'a B,
    /// A 64 bit file: addresses and offsets have 8 bytes.
    pub wide: bool,
    pub sections: Vec<Section>,
    /// The segments that are loaded.
    pub segments: Vec<Segment>,
    names: Vec<u8>,
}

/// Reads the numbers of a structure one after the other.
pub struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub wide: bool,
}

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.bytes.split_first_chunk::<N>() {
            Some((first, rest)) => {
                self.bytes = rest;
                Ok(*first)
            }
            None => Err(Problem::new("a structure ends early")),
        }
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_ne_bytes(self.take()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_ne_bytes(self.take()?))
    }

    /// An address, offset or size.
    pub fn word(&mut self) -> Result<u64> {
        if self.wide {
            Ok(u64::from_ne_bytes(self.take()?))
        } else {
            Ok(self.u32()?.into())
        }
    }
}

impl<'a, B: Bytes + ?Sized> Elf<'a, B> {
    pub fn parse(source: &'a B) -> Result<Elf<'a, B>> {
        let mut ident = [0; 16];
        source.read_at(0, &mut ident)?;
        if ident[..4] != *b"\x7fELF" {
            return Err(Problem::new("it is not an ELF file"));
        }
        let wide = match ident[4] {
            ELFCLASS32 => false,
            ELFCLASS64 => true,
            other => return Err(Problem::new(format!("ELF class {other}"))),
        };
        if ident[5] != NATIVE {
            return Err(Problem::new("its byte order is another machine's"));
        }
        let header = read(source, 16, if wide { 48 } else { 36 }, 64)?;
        let mut c = Cursor { bytes: &header, wide };
        let (_kind, _machine, _version) = (c.u16()?, c.u16()?, c.u32()?);
        let (_entry, segments_at, sections_at) = (c.word()?, c.word()?, c.word()?);
        let (_flags, _size) = (c.u32()?, c.u16()?);
        let (segment_size, segments) = (c.u16()?, c.u16()?);
        let (section_size, sections, names_index) = (c.u16()?, c.u16()?, c.u16()?);

        let mut elf = Elf { source, wide, sections: vec![], segments: vec![], names: vec![] };
        elf.read_segments(segments_at, segment_size.into(), segments.into())?;
        if sections_at != 0 {
            elf.read_sections(sections_at, section_size.into(), sections.into())?;
        }
        let mut index = u32::from(names_index);
        if index == 0xffff {
            // SHN_XINDEX: the number does not fit in the header; it is in the first section.
            index = elf.sections.first().map_or(0, |s| s.link);
        }
        if let Some(section) = elf.sections.get(index as usize) {
            if section.kind != SHT_NOBITS && index != 0 {
                elf.names = read(source, section.offset, section.size, MAX_SECTION_NAMES)?;
            }
        }
        Ok(elf)
    }

    fn table(&self, at: u64, entry: usize, least: usize, count: usize) -> Result<Vec<u8>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if entry < least {
            return Err(Problem::new(format!("a header entry of {entry} bytes")));
        }
        // Entries are 16 bit numbers: no overflow, and at most 64 MiB.
        read(self.source, at, (entry * count) as u64, entry * count)
    }

    fn read_segments(&mut self, at: u64, entry: usize, count: usize) -> Result<()> {
        if count > MAX_SEGMENTS {
            return Err(Problem::new(format!("{count} segments, at most {MAX_SEGMENTS} are read")));
        }
        let table = self.table(at, entry, if self.wide { 56 } else { 32 }, count)?;
        for bytes in table.chunks_exact(entry.max(1)) {
            let mut c = Cursor { bytes, wide: self.wide };
            let kind = c.u32()?;
            let early_flags = if self.wide { c.u32()? } else { 0 };
            let (offset, address, _physical) = (c.word()?, c.word()?, c.word()?);
            let (file_size, _memory) = (c.word()?, c.word()?);
            let flags = if self.wide { early_flags } else { c.u32()? };
            if kind == PT_LOAD {
                let executable = flags & PF_X != 0;
                self.segments.push(Segment { executable, offset, address, file_size });
            }
        }
        Ok(())
    }

    fn read_sections(&mut self, at: u64, entry: usize, count: usize) -> Result<()> {
        let least = if self.wide { 64 } else { 40 };
        let mut count = count;
        if count == 0 {
            // The number does not fit in the header: it is the size of the first section.
            let first = self.table(at, entry, least, 1)?;
            count = usize::try_from(self.section(&first)?.size).unwrap_or(usize::MAX);
        }
        if count > MAX_SECTIONS {
            return Err(Problem::new(format!("{count} sections, at most {MAX_SECTIONS} are read")));
        }
        let table = self.table(at, entry, least, count)?;
        self.sections = table
            .chunks_exact(entry.max(1))
            .map(|bytes| self.section(bytes))
            .collect::<Result<_>>()?;
        Ok(())
    }

    fn section(&self, bytes: &[u8]) -> Result<Section> {
        let mut c = Cursor { bytes, wide: self.wide };
        let (name, kind, _flags) = (c.u32()?, c.u32()?, c.word()?);
        let (address, offset, size) = (c.word()?, c.word()?, c.word()?);
        let (link, _info, _align) = (c.u32()?, c.u32()?, c.word()?);
        Ok(Section { name, kind, address, offset, size, link, entry: c.word()? })
    }

    /// The first section of that name.
    pub fn named(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| {
            let at = s.name as usize;
            let found = super::text_at(&self.names, at, name.len());
            found == Some(name.as_bytes())
        })
    }

    /// A section's content, at most `limit` bytes.
    pub fn content(&self, section: &Section, limit: usize) -> Result<Vec<u8>> {
        if section.kind == SHT_NOBITS {
            return Ok(Vec::new());
        }
        read(self.source, section.offset, section.size, limit)
    }

    /// The file offset of the byte that is loaded at `address`; executable segments come first.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let found = |executable: bool| {
            self.segments.iter().filter(move |s| s.executable == executable).find_map(|s| {
                let inside = address.checked_sub(s.address)?;
                (inside < s.file_size).then(|| s.offset.checked_add(inside)).flatten()
            })
        };
        found(true).or_else(|| found(false))
    }
}
