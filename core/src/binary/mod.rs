//! Files of containers. They are opened inside the container's root and read within limits: a
//! hostile file may try to exhaust memory or time, or to lead out of the root by a link.

pub mod elf;
pub mod gosym;
pub mod ldcache;
pub mod lease;
pub mod root;
pub mod symbols;
pub mod usdt;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(pub String);

impl Problem {
    pub fn new(why: impl Into<String>) -> Problem {
        Problem(why.into())
    }
}

impl From<io::Error> for Problem {
    fn from(e: io::Error) -> Problem {
        Problem(e.to_string())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub type Result<T> = std::result::Result<T, Problem>;

/// Bytes that may change while they are read, so they are copied and never mapped.
pub trait Bytes {
    fn size(&self) -> u64;
    /// Fills all of `into` with the bytes from `at` on.
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<()>;
}

impl Bytes for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let end = start.saturating_add(into.len());
        match self.get(start..end) {
            Some(part) => {
                into.copy_from_slice(part);
                Ok(())
            }
            None => Err(Problem::new(format!("{} bytes at {at} are beyond its end", into.len()))),
        }
    }
}

/// A file, and its size when it was opened.
pub struct FileBytes {
    pub file: File,
    size: u64,
}

impl FileBytes {
    pub fn new(file: File) -> io::Result<FileBytes> {
        let size = file.metadata()?.len();
        Ok(FileBytes { file, size })
    }
}

impl Bytes for FileBytes {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<()> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.size) {
            return Err(Problem::new(format!("{} bytes at {at} are beyond its end", into.len())));
        }
        Ok(self.file.read_exact_at(into, at)?)
    }
}

/// `length` bytes from `at` on, at most `limit`.
pub fn read(from: &(impl Bytes + ?Sized), at: u64, length: u64, limit: usize) -> Result<Vec<u8>> {
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if size > limit {
        return Err(Problem::new(format!("{length} bytes where at most {limit} are read")));
    }
    // Checked before memory is allocated for bytes that the file does not have.
    if at.checked_add(length).is_none_or(|end| end > from.size()) {
        return Err(Problem::new(format!("{length} bytes at {at} are beyond its end")));
    }
    let mut bytes = vec![0; size];
    from.read_at(at, &mut bytes)?;
    Ok(bytes)
}

/// The NUL-terminated text at `at`, without the NUL; None when it does not end within the limit.
pub fn text_at(bytes: &[u8], at: usize, limit: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let window = &rest[..rest.len().min(limit + 1)];
    memchr::memchr(0, window).map(|end| &window[..end])
}
