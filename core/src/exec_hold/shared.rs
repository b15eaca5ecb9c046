//! Counts in memory that two processes share.

use std::io;
use std::mem::size_of;

use super::responder::Counts;

/// A page that the responder writes and its parent reads.
pub struct Shared(*mut Counts);

// SAFETY: it points to atomics in a mapping that lives as long as this.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new() -> io::Result<Shared> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping; zeros are valid counts.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Counts>(), rights, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Shared(at.cast()))
    }

    pub fn get(&self) -> &Counts {
        // SAFETY: mapped for as long as self lives, and only accessed as atomics.
        unsafe { &*self.0 }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by new, and no reference to it is left.
        unsafe { libc::munmap(self.0.cast(), size_of::<Counts>()) };
    }
}
