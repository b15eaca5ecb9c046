//! Waiting for samples, and ending the wait from another thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};
use nix::sys::eventfd::EventFd;

use crate::errors::{Error, Result};
use crate::fds;

/// Events that one epoll_wait(2) reports; the others are reported by the next.
const MAX_EVENTS: usize = 8;

pub struct Wakeup {
    /// All readers, and `waker`.
    epoll: Epoll,
    waker: EventFd,
    /// Set before the last wake-up, which no waiter takes: every waiter sees it.
    closed: AtomicBool,
}

impl Wakeup {
    pub fn new() -> Result<Wakeup> {
        let (epoll, waker) = (fds::epoll()?, fds::waker()?);
        fds::watch(&epoll, waker.as_fd())?;
        Ok(Wakeup { epoll, waker, closed: AtomicBool::new(false) })
    }

    /// [`Wakeup::wait`] returns when `fd` becomes readable.
    pub fn watch(&self, fd: BorrowedFd<'_>) -> Result<()> {
        fds::watch(&self.epoll, fd)
    }

    /// Waits until samples are there, the time is over or another thread wakes the waiter. True
    /// when a wake-up or a signal came.
    pub fn wait(&self, time: Duration) -> Result<bool> {
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        let timeout = EpollTimeout::try_from(rounded_up(time)).unwrap_or(EpollTimeout::MAX);
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            // Python handles signals between two calls.
            Err(Errno::EINTR) => return Ok(true),
            Err(e) => {
                let cause = io::Error::from(e);
                return Err(Error::map(format!("waiting for events failed: {cause}")));
            }
        };
        let waker = self.waker.as_fd().as_raw_fd() as u64;
        let woken = events[..count].iter().any(|event| event.data() == waker);
        if woken {
            self.sleep(Duration::ZERO);
        }
        Ok(woken)
    }

    /// Waits for a wake-up only and takes it; true when one came within the time.
    pub fn sleep(&self, time: Duration) -> bool {
        let mut polled = [PollFd::new(self.waker.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(rounded_up(time)).unwrap_or(PollTimeout::MAX);
        let count = poll(&mut polled, timeout).unwrap_or(0);
        if self.closed.load(Ordering::Acquire) {
            return true;
        }
        // The eventfd is non-blocking: of two waiters one takes the wake-up.
        count > 0 && self.waker.read().is_ok()
    }

    /// Waits until `other` is readable, a wake-up comes, or samples are there where `samples`; at
    /// most so long. True when a wake-up or a signal came.
    pub fn wait_also(&self, other: BorrowedFd<'_>, samples: bool, time: Duration) -> Result<bool> {
        let timeout = PollTimeout::try_from(rounded_up(time)).unwrap_or(PollTimeout::MAX);
        let own = if samples { self.epoll.0.as_fd() } else { self.waker.as_fd() };
        let mut polled =
            [PollFd::new(own, PollFlags::POLLIN), PollFd::new(other, PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(_) => Ok(self.sleep(Duration::ZERO)),
            Err(Errno::EINTR) => Ok(true),
            Err(e) => {
                let cause = io::Error::from(e);
                Err(Error::map(format!("waiting for room failed: {cause}")))
            }
        }
    }

    pub fn wake(&self) {
        fds::wake(&self.waker);
    }

    /// Wakes every waiter, now and later.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }
}

/// In milliseconds, none for no time only: a wait of a part of a millisecond must not become a
/// loop without a wait.
fn rounded_up(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}
