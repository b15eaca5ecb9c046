//! The process that answers the kernel when a container runtime is executed.
//!
//! An execution waits for the answer, so the answer must come whatever happens to ig-py. A thread
//! would stop together with its process (SIGSTOP), so this is a process of its own: a copy of
//! ig-py that does nothing else. It waits for messages of its parent, but never longer than two
//! deadlines: one until the parent takes the execution, which shows that the parent runs, and a
//! later one until the parent releases it. When this process ends, or the parent does, the kernel
//! lets every execution go on.
//!
//! The process was copied from one with many threads, and any of them may have held a lock then.
//! Nothing here allocates, panics or calls a function that does.

use std::mem::{size_of, zeroed};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::after_fork::{self, EVENT_SIZE};
use super::ledger::{Bounds, Ledger, Waiting};

/// In place of an execution's number: the message has a file to be marked.
pub const MARK: u64 = 0;
/// Bit of a message's number: the execution is taken, and not released yet.
pub const TAKEN: u64 = 1 << 63;

/// Shared with the parent, which reads it at any time. Times are in ns.
#[derive(Default)]
#[repr(C)]
pub struct Counts {
    /// Executions that the parent released.
    pub released: AtomicU64,
    /// Executions that went on at their deadline.
    pub expired: AtomicU64,
    /// Executions that did not wait: too many at once, or the parent does not answer.
    pub passed: AtomicU64,
    /// The sum of all waits, and the longest.
    pub waited: AtomicU64,
    pub longest: AtomicU64,
}

/// A message to the parent: an execution waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Request {
    pub serial: u64,
    pub pid: i32,
    pub unused: u32,
}

impl Request {
    pub fn of(message: &[u8; size_of::<Request>()]) -> Request {
        // SAFETY: plain numbers, for which any bytes are valid.
        unsafe { std::ptr::read_unaligned(message.as_ptr().cast()) }
    }
}

fn now() -> u64 {
    // SAFETY: zeros are a valid time, which the call fills.
    unsafe {
        let mut time: libc::timespec = zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

struct Responder<'a> {
    group: RawFd,
    parent: RawFd,
    ledger: Ledger,
    serial: u64,
    counts: &'a Counts,
}

impl Responder<'_> {
    fn allow(&self, waiting: Waiting, how: &AtomicU64) {
        after_fork::allow(self.group, waiting.fd);
        let time = now().saturating_sub(waiting.since);
        how.fetch_add(1, Ordering::Relaxed);
        self.counts.waited.fetch_add(time, Ordering::Relaxed);
        self.counts.longest.fetch_max(time, Ordering::Relaxed);
    }

    /// False when the parent cannot be told of the execution, and so would never answer.
    fn tell(&self, pid: i32) -> bool {
        let request = Request { serial: self.serial, pid, unused: 0 };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the request is readable for its size.
        let sent = unsafe {
            libc::send(self.parent, (&raw const request).cast(), size_of::<Request>(), flags)
        };
        sent == size_of::<Request>() as isize
    }

    /// Reads the kernel's questions. False when that fails: some would never be answered.
    fn questions(&mut self) -> bool {
        let mut buffer = [0u8; 8 * EVENT_SIZE];
        let n = match after_fork::read(self.group, &mut buffer) {
            Ok(n) => n,
            Err(e) => return matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)),
        };
        let mut rest = buffer.get(..n).unwrap_or_default();
        while let Some((event, length)) = after_fork::parse(rest) {
            rest = rest.get(length..).unwrap_or_default();
            if event.fd < 0 {
                continue;
            }
            self.serial += 1;
            // A parent that does not answer is told all the same: when it runs again it answers,
            // and executions wait again.
            let told = self.tell(event.pid);
            if told && self.ledger.patient() {
                self.ledger.add(event.fd, self.serial, now());
            } else {
                after_fork::allow(self.group, event.fd);
                self.counts.passed.fetch_add(1, Ordering::Relaxed);
            }
        }
        rest.is_empty()
    }

    /// Takes the parent's messages; false when the parent has ended.
    fn answers(&mut self) -> bool {
        loop {
            let mut serial = 0u64;
            let mut control = [0u64; 8];
            let mut part =
                libc::iovec { iov_base: (&raw mut serial).cast(), iov_len: size_of::<u64>() };
            // SAFETY: zeros are a valid header; both buffers are writable and outlive the call.
            let (n, file) = unsafe {
                let mut message: libc::msghdr = zeroed();
                message.msg_iov = &raw mut part;
                message.msg_iovlen = 1;
                message.msg_control = control.as_mut_ptr().cast();
                message.msg_controllen = size_of_val(&control) as _;
                let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
                let n = libc::recvmsg(self.parent, &raw mut message, flags);
                let head = if n > 0 {
                    libc::CMSG_FIRSTHDR(&raw const message)
                } else {
                    std::ptr::null_mut()
                };
                let file = if !head.is_null() && (*head).cmsg_type == libc::SCM_RIGHTS {
                    std::ptr::read_unaligned(libc::CMSG_DATA(head).cast::<RawFd>())
                } else {
                    -1
                };
                (n, file)
            };
            if n == 0 {
                return false;
            }
            if n < 0 {
                let error = std::io::Error::last_os_error().raw_os_error();
                return matches!(error, Some(libc::EAGAIN | libc::EINTR));
            }
            if serial == MARK {
                if file >= 0 {
                    after_fork::mark_file(self.group, file);
                }
            } else if serial & TAKEN != 0 {
                self.ledger.take(serial & !TAKEN);
            } else if let Some(waiting) = self.ledger.release(serial) {
                self.allow(waiting, &self.counts.released);
            }
            if file >= 0 {
                // SAFETY: received just now, and owned by nothing else.
                unsafe { libc::close(file) };
            }
        }
    }

    fn run(&mut self) {
        loop {
            let left = self.ledger.left(now()).map(|ns| libc::timespec {
                tv_sec: (ns / 1_000_000_000) as _,
                tv_nsec: (ns % 1_000_000_000) as _,
            });
            let timeout = left.as_ref().map_or(std::ptr::null(), |t| &raw const *t);
            let mut polls = [
                libc::pollfd { fd: self.group, events: libc::POLLIN, revents: 0 },
                libc::pollfd { fd: self.parent, events: libc::POLLIN, revents: 0 },
            ];
            // SAFETY: two entries and a time, which live through the call.
            if unsafe { libc::ppoll(polls.as_mut_ptr(), 2, timeout, std::ptr::null()) } < 0
                && std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR)
            {
                return;
            }
            if polls[1].revents != 0 && !self.answers() {
                return;
            }
            while let Some(waiting) = self.ledger.expire(now()) {
                self.allow(waiting, &self.counts.expired);
            }
            if polls[0].revents != 0 && !self.questions() {
                return;
            }
        }
    }
}

/// Answers until the parent has closed its end of the socket `parent`. Only for a process of its
/// own, which has to end afterwards: then the kernel lets every execution go on that still waits.
pub fn respond(group: RawFd, parent: RawFd, bounds: Bounds, counts: &Counts) {
    Responder { group, parent, ledger: Ledger::new(bounds), serial: 0, counts }.run();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_cannot_be_read_ends_the_responder() {
        for (version, goes_on) in [(0, true), (1, false)] {
            let meta = libc::fanotify_event_metadata {
                event_len: EVENT_SIZE as u32,
                vers: libc::FANOTIFY_METADATA_VERSION + version,
                reserved: 0,
                metadata_len: EVENT_SIZE as u16,
                mask: 0,
                fd: libc::FAN_NOFD,
                pid: 1,
            };
            let mut pipe = [-1; 2];
            // SAFETY: two writable numbers, and a structure readable for its size.
            let written = unsafe {
                assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
                libc::write(pipe[1], (&raw const meta).cast(), EVENT_SIZE)
            };
            assert_eq!(written, EVENT_SIZE as isize);
            let ledger = Ledger::new(Bounds { taken: 1, released: 1 });
            let counts = Counts::default();
            let [group, parent] = pipe;
            let mut responder = Responder { group, parent, ledger, serial: 0, counts: &counts };
            assert_eq!(responder.questions(), goes_on);
            // SAFETY: opened above.
            let _ = pipe.map(|fd| unsafe { libc::close(fd) });
        }
    }
}
