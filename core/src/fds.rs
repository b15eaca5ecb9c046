//! File descriptors: those that system calls return, and waiting for several of them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::errors::{Error, Result};

/// The descriptor that a system call returned, or why there is none.
///
/// # Safety
/// `number` must be what a system call has just returned: nothing else owns the descriptor, and
/// errno is that of the call.
pub unsafe fn owned(number: impl Into<i64>) -> io::Result<OwnedFd> {
    match RawFd::try_from(number.into()) {
        // SAFETY: the caller vouches for it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn created<T>(what: &str, made: nix::Result<T>) -> Result<T> {
    let why = |e| Error::map(format!("cannot create {what}: {}", io::Error::from(e)));
    made.map_err(why)
}

/// Readable when a descriptor is that was added by [`watch`].
pub fn epoll() -> Result<Epoll> {
    created("an epoll", Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC))
}

/// Readable after [`wake`]; reading it never blocks.
pub fn waker() -> Result<EventFd> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    created("an eventfd", EventFd::from_flags(flags))
}

pub fn wake(waker: &EventFd) {
    // It fails when the counter is full: then the descriptor is readable already.
    let _ = waker.write(1);
}

/// Adds a descriptor. The data of its events is the descriptor's number.
pub fn watch(epoll: &Epoll, fd: BorrowedFd<'_>) -> Result<()> {
    let event = EpollEvent::new(EpollFlags::EPOLLIN, fd.as_raw_fd() as u64);
    epoll
        .add(fd, event)
        .map_err(|e| Error::map(format!("cannot wait for events: {}", io::Error::from(e))))
}
