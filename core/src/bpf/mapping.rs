//! Memory mapped from a file.

use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;

use nix::unistd::{sysconf, SysconfVar};

/// The memory stays mapped as long as this lives.
pub struct Mapping {
    pub start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    pub fn shared(fd: RawFd, offset: usize, length: usize, protection: i32) -> io::Result<Mapping> {
        Mapping::map(fd, offset, length, protection, libc::MAP_SHARED)
    }

    /// The beginning of a file whose content does not change.
    pub fn read_only(fd: RawFd, length: usize) -> io::Result<Mapping> {
        Mapping::map(fd, 0, length, libc::PROT_READ, libc::MAP_PRIVATE)
    }

    fn map(
        fd: RawFd,
        offset: usize,
        length: usize,
        protection: i32,
        flags: i32,
    ) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            let offset = offset as libc::off_t;
            libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, offset)
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Mapping { start, length })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The content of a mapping of [`Mapping::read_only`].
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as self, and readable.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` and unmapped once.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Bytes of a page of memory.
pub fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|n| usize::try_from(n).ok()).unwrap_or(4096)
}
