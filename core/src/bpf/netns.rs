//! Working in another network namespace, without the rest of the process noticing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Runs `work` on a thread that is in the network namespace of `fd`.
pub fn within<T: Send>(fd: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ig-py-netns".into()).spawn_scoped(
            scope,
            move || {
                // SAFETY: an open descriptor; only this thread changes its namespace.
                if unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(work())
            },
        )?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread broke off")))
    })
}
