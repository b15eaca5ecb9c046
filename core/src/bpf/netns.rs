//! Runs code in another network namespace, in a thread of its own.

use std::io;
use std::os::fd::BorrowedFd;

use nix::sched::{setns, CloneFlags};

/// Runs `work` on a thread that is in the network namespace of `fd`.
pub fn within<T: Send>(fd: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ig-py-netns".into()).spawn_scoped(
            scope,
            move || {
                setns(fd, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            },
        )?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread broke off")))
    })
}
