//! Symbols of mapped files, kept while they are used.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::panic::{catch_unwind, AssertUnwindSafe};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::Input;

use super::allowance::Allowance;
use super::debuginfo::SymbolFiles;
use super::distill::{distill_with, Distilled};
use super::kernel::Isolated;
use super::readable::is_readable;
use crate::binary::{root, FileBytes};

/// Bytes of symbols that are kept. Beyond that, the least recently used are dropped.
const MAX_KEPT: usize = 256 << 20;
const MAX_FILES: usize = 1024;

/// What identifies an unchanged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

struct Kept {
    /// None when the file has no symbols that can be read.
    symbols: Option<FileSymbols>,
    used: u64,
}

struct FileSymbols {
    distilled: Distilled,
    symbolizer: Isolated,
}

#[derive(Default)]
pub struct Files {
    pub sources: SymbolFiles,
    pub reading: Allowance,
    kept: HashMap<FileId, Kept>,
    bytes: usize,
    clock: u64,
}

impl Files {
    pub fn new(sources: SymbolFiles) -> Files {
        Files { sources, ..Files::default() }
    }

    /// Opens the file at `path`, a link in /proc/PID/map_files: it leads to the mapped file itself.
    /// `spender`: the pid namespace whose time it takes to read it.
    pub fn open(&mut self, path: &str, spender: u64) -> Option<FileId> {
        let file = root::open_link(path).ok()?;
        let about = file.metadata().ok()?;
        let id = FileId {
            device: about.dev(),
            inode: about.ino(),
            size: about.len(),
            changed: (about.mtime(), about.mtime_nsec()),
        };
        if !self.kept.contains_key(&id) {
            let Files { sources, reading, .. } = self;
            let symbols = match is_readable(&about) {
                true => reading.spend(spender, || FileSymbols::read(file, sources))?,
                false => None,
            };
            self.bytes += symbols.as_ref().map_or(0, |s| s.distilled.size);
            self.kept.insert(id, Kept { symbols, used: u64::MAX });
            self.shrink();
        }
        Some(id)
    }

    fn shrink(&mut self) {
        while self.kept.len() > 1 && (self.bytes > MAX_KEPT || self.kept.len() > MAX_FILES) {
            let oldest = self.kept.iter().min_by_key(|(_, k)| k.used).map(|(id, _)| *id);
            let Some(gone) = oldest.and_then(|id| self.kept.remove(&id)) else { return };
            self.bytes -= gone.symbols.map_or(0, |s| s.distilled.size);
        }
    }

    /// Appends the name of the function at `offset` of the file; false when it has none.
    pub fn name(&mut self, id: &FileId, offset: u64, out: &mut Vec<u8>) -> bool {
        self.clock += 1;
        let Some(kept) = self.kept.get_mut(id) else { return false };
        kept.used = self.clock;
        kept.symbols.as_ref().is_some_and(|s| s.name(offset, out))
    }
}

impl FileSymbols {
    fn read(file: File, sources: &mut SymbolFiles) -> Option<FileSymbols> {
        let file = FileBytes::new(file).ok()?;
        let apart = sources.apart(&file);
        let distilled = distill_with(&file, sources.own, apart.as_ref()).ok()?;
        Some(FileSymbols { distilled, symbolizer: Isolated::new() })
    }

    fn name(&self, offset: u64, out: &mut Vec<u8>) -> bool {
        let Some(address) = self.distilled.address_of(offset) else { return false };
        let path = format!("/proc/self/fd/{}", self.distilled.file.as_raw_fd());
        let source = Source::from(Elf { debug_syms: false, ..Elf::new(path) });
        // The numbers in the table come from an untrusted file: blazesym may panic.
        let found = catch_unwind(AssertUnwindSafe(|| {
            let found =
                self.symbolizer.0.symbolize_single(&source, Input::VirtOffset(address)).ok()?;
            Some(found.as_sym()?.name.as_bytes().to_vec())
        }));
        match found {
            Ok(Some(name)) => {
                out.extend_from_slice(&name);
                true
            }
            _ => false,
        }
    }
}
