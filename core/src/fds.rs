//! Descriptors that system calls return, and waiting for several.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::errors::{Error, Result};

/// The descriptor, or why there is none.
///
/// # Safety
/// The number must have come from a system call just now: nobody else owns it, and errno is of
/// that call.
pub unsafe fn owned(number: impl Into<i64>) -> io::Result<OwnedFd> {
    match RawFd::try_from(number.into()) {
        // SAFETY: the caller vouches for it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn created(what: &str, fd: io::Result<OwnedFd>) -> Result<OwnedFd> {
    fd.map_err(|cause| Error::map(format!("cannot create {what}: {cause}")))
}

/// Readable when one of those is that it is given by [`watch`].
pub fn epoll() -> Result<OwnedFd> {
    // SAFETY: no pointers; a fresh descriptor.
    created("an epoll", unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) })
}

/// Readable after [`wake`]; it never blocks.
pub fn waker() -> Result<OwnedFd> {
    // SAFETY: no pointers; a fresh descriptor.
    let fd = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) };
    created("an eventfd", fd)
}

pub fn wake(waker: &OwnedFd) {
    let one = 1u64;
    // SAFETY: eight readable bytes; failing means it is awake already.
    unsafe { libc::write(waker.as_raw_fd(), (&raw const one).cast(), size_of_val(&one)) };
}

/// The event tells `fd`.
pub fn watch(epoll: &OwnedFd, fd: RawFd) -> Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
    // SAFETY: an open descriptor and one that the kernel checks; the event outlives the call.
    let rc = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
    if rc < 0 {
        let cause = io::Error::last_os_error();
        return Err(Error::map(format!("cannot wait for events: {cause}")));
    }
    Ok(())
}
