//! Symbols in files of their own, found by build id in debuginfod's cache (debuginfod-find(1)).

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::readable::is_readable;
use crate::binary::elf::Elf;
use crate::binary::{root, Bytes, FileBytes};

const SECTION: &str = ".note.gnu.build-id";
const MAX_NOTE: usize = 1024;
const NT_GNU_BUILD_ID: u32 = 3;
const OWNER: &[u8] = b"GNU\0";
/// A note begins with three numbers; the owner's name follows.
const HEAD: usize = 12;
const MAX_ID: usize = 64;
/// Build ids without a file in the cache that are reported.
const MAX_MISSING: usize = 64;

/// The files that symbols are read from.
#[derive(Debug, Default)]
pub struct SymbolFiles {
    /// Read the mapped files themselves, and perf maps.
    pub own: bool,
    pub cache: Option<PathBuf>,
    pub missing: BTreeSet<String>,
}

impl SymbolFiles {
    /// The file of symbols that the cache has for a mapped file.
    pub fn apart<B: Bytes + ?Sized>(&mut self, source: &B) -> Option<FileBytes> {
        let cache = self.cache.as_ref()?;
        let id = build_id(&Elf::parse(source).ok()?)?;
        let found = root::open_link(cache.join(&id).join("debuginfo")).ok().filter(|file| {
            file.metadata().is_ok_and(|about| is_readable(&about) && about.len() > 0)
        });
        if found.is_none() && self.missing.len() < MAX_MISSING {
            self.missing.insert(id);
        }
        FileBytes::new(found?).ok()
    }
}

/// The build id in hexadecimal.
pub fn build_id<B: Bytes + ?Sized>(elf: &Elf<'_, B>) -> Option<String> {
    let note = elf.content(elf.named(SECTION)?, MAX_NOTE).ok()?;
    let word = |at: usize| Some(u32::from_ne_bytes(*note.get(at..)?.first_chunk()?));
    let (owner, size, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
    let name = note.get(HEAD..HEAD.checked_add(owner)?)?;
    if kind != NT_GNU_BUILD_ID || name != OWNER || size == 0 || size > MAX_ID {
        return None;
    }
    let id = note.get(HEAD + OWNER.len()..HEAD + OWNER.len() + size)?;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn this_program_has_one() {
        let file = FileBytes::new(File::open("/proc/self/exe").unwrap()).unwrap();
        let id = build_id(&Elf::parse(&file).unwrap());
        assert!(id.is_none_or(|id| id.len() >= 16 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn what_is_not_there_is_told_once() {
        let file = FileBytes::new(File::open("/proc/self/exe").unwrap()).unwrap();
        let known = build_id(&Elf::parse(&file).unwrap()).is_some();
        let mut sources =
            SymbolFiles { cache: Some("/nonexistent".into()), ..SymbolFiles::default() };
        assert!(sources.apart(&file).is_none() && sources.apart(&file).is_none());
        assert_eq!(sources.missing.len(), usize::from(known));
        sources = SymbolFiles::default();
        assert!(sources.apart(&file).is_none() && sources.missing.is_empty());
    }
}
