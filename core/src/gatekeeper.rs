//! The process that answers the kernel when a container runtime is executed.
//!
//! Whoever executes a runtime waits for its answer, so it must come whatever happens to the
//! tracer. A thread would stop with it (SIGSTOP stops a whole process), and so this is a process
//! of its own: a copy of the tracer that does nothing else. It waits for the tracer's word, but
//! never longer than the deadline; when it ends, or the tracer does, the kernel lets everybody go.
//!
//! It was forked from a process with many threads, one of which may have held any lock: nothing
//! here allocates, panics or calls what does.

use std::mem::{size_of, zeroed};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fanotify::{self, EVENT_SIZE};

/// Executions that wait at once; others do not wait at all.
pub const MAX_WAITING: usize = 64;
/// After so many deadlines in a row, nobody waits until the tracer speaks again.
pub const PATIENCE: u32 = 3;
/// Of a message that has a file to be marked, in place of an execution's number.
pub const MARK: u64 = 0;

/// Read by the tracer at any time; times in ns.
#[derive(Default)]
#[repr(C)]
pub struct Counts {
    /// Executions that waited, and how they went on.
    pub released: AtomicU64,
    pub expired: AtomicU64,
    /// Those that did not wait: too many at once, or the tracer does not speak.
    pub passed: AtomicU64,
    pub waited: AtomicU64,
    pub longest: AtomicU64,
}

/// To the tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Request {
    pub serial: u64,
    pub pid: i32,
    pub unused: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    fd: RawFd,
    serial: u64,
    since: u64,
}

/// Who waits, oldest first. Times are in ns.
struct Ledger {
    list: [Waiting; MAX_WAITING],
    count: usize,
    deadline: u64,
    misses: u32,
}

impl Ledger {
    fn new(deadline: u64) -> Ledger {
        let nobody = Waiting { fd: -1, serial: 0, since: 0 };
        Ledger { list: [nobody; MAX_WAITING], count: 0, deadline, misses: 0 }
    }

    /// Whether another one may wait.
    fn patient(&self) -> bool {
        self.count < MAX_WAITING && self.misses < PATIENCE
    }

    fn add(&mut self, fd: RawFd, serial: u64, now: u64) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = Waiting { fd, serial, since: now };
            self.count += 1;
        }
    }

    fn remove(&mut self, index: usize) -> Option<Waiting> {
        let found = *self.list[..self.count].get(index)?;
        self.list.copy_within(index + 1..self.count, index);
        self.count -= 1;
        Some(found)
    }

    /// The tracer's word about one that may have gone on meanwhile: it lives, at any rate.
    fn release(&mut self, serial: u64) -> Option<Waiting> {
        self.misses = 0;
        let index = self.list[..self.count].iter().position(|w| w.serial == serial)?;
        self.remove(index)
    }

    /// One that has waited long enough.
    fn expire(&mut self, now: u64) -> Option<Waiting> {
        if self.left(now)? > 0 {
            return None;
        }
        self.misses = self.misses.saturating_add(1);
        self.remove(0)
    }

    /// Until the first deadline; None: nobody waits.
    fn left(&self, now: u64) -> Option<u64> {
        let first = self.list[..self.count].first()?;
        Some(first.since.saturating_add(self.deadline).saturating_sub(now))
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

struct Keeper<'a> {
    group: RawFd,
    tracer: RawFd,
    ledger: Ledger,
    serial: u64,
    counts: &'a Counts,
}

impl Keeper<'_> {
    fn go(&self, waiting: Waiting, how: &AtomicU64) {
        fanotify::allow(self.group, waiting.fd);
        let time = now().saturating_sub(waiting.since);
        how.fetch_add(1, Ordering::Relaxed);
        self.counts.waited.fetch_add(time, Ordering::Relaxed);
        self.counts.longest.fetch_max(time, Ordering::Relaxed);
    }

    /// False: the tracer cannot be told, and so would never answer.
    fn tell(&self, pid: i32) -> bool {
        let request = Request { serial: self.serial, pid, unused: 0 };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the request is readable for its size.
        let sent = unsafe {
            libc::send(self.tracer, (&raw const request).cast(), size_of::<Request>(), flags)
        };
        sent == size_of::<Request>() as isize
    }

    /// False: the kernel's questions cannot be read, so that some would never be answered.
    fn questions(&mut self) -> bool {
        let mut buffer = [0u8; 8 * EVENT_SIZE];
        let n = match fanotify::read(self.group, &mut buffer) {
            Ok(n) => n,
            Err(e) => return matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)),
        };
        let mut rest = buffer.get(..n).unwrap_or_default();
        while let Some((event, length)) = fanotify::parse(rest) {
            rest = rest.get(length..).unwrap_or_default();
            if event.fd < 0 {
                continue;
            }
            self.serial += 1;
            // A tracer that stands still is told, too: when it goes on it answers, and is
            // waited for again.
            let told = self.tell(event.pid);
            if told && self.ledger.patient() {
                self.ledger.add(event.fd, self.serial, now());
            } else {
                fanotify::allow(self.group, event.fd);
                self.counts.passed.fetch_add(1, Ordering::Relaxed);
            }
        }
        rest.is_empty()
    }

    /// False: the tracer has ended.
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
                let n = libc::recvmsg(self.tracer, &raw mut message, flags);
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
                    fanotify::mark_file(self.group, file);
                }
            } else if let Some(waiting) = self.ledger.release(serial) {
                self.go(waiting, &self.counts.released);
            }
            if file >= 0 {
                // SAFETY: received just now, and nobody else knows of it.
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
                libc::pollfd { fd: self.tracer, events: libc::POLLIN, revents: 0 },
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
                self.go(waiting, &self.counts.expired);
            }
            if polls[0].revents != 0 && !self.questions() {
                return;
            }
        }
    }
}

/// Answers until the tracer has closed its end of `tracer`. Only in a process of its own, which
/// has to end afterwards: that lets everybody go who still waits.
pub fn keep(group: RawFd, tracer: RawFd, deadline_ns: u64, counts: &Counts) {
    Keeper { group, tracer, ledger: Ledger::new(deadline_ns), serial: 0, counts }.run();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tracers_word_lets_one_go_whichever_it_is() {
        let mut ledger = Ledger::new(100);
        for serial in 1..=3 {
            ledger.add(10 + serial as RawFd, serial, serial);
        }
        assert_eq!(ledger.release(2).map(|w| w.fd), Some(12));
        assert_eq!(ledger.release(2), None);
        assert_eq!(ledger.left(3), Some(98));
        assert_eq!(ledger.release(1).map(|w| w.fd), Some(11));
        assert_eq!(ledger.left(3), Some(100));
    }

    #[test]
    fn nobody_waits_beyond_the_deadline() {
        let mut ledger = Ledger::new(100);
        ledger.add(11, 1, 1000);
        ledger.add(12, 2, 1050);
        assert_eq!(ledger.expire(1099), None);
        assert_eq!(ledger.expire(1100).map(|w| w.serial), Some(1));
        assert_eq!(ledger.expire(1100), None);
        assert_eq!(ledger.expire(9000).map(|w| w.serial), Some(2));
        assert_eq!(ledger.left(9000), None);
    }

    #[test]
    fn a_tracer_that_does_not_speak_is_not_waited_for_until_it_does() {
        let mut ledger = Ledger::new(100);
        for serial in 1..=u64::from(PATIENCE) {
            assert!(ledger.patient());
            ledger.add(1, serial, 0);
            ledger.expire(100);
        }
        assert!(!ledger.patient());
        assert_eq!(ledger.release(1), None);
        assert!(ledger.patient());
    }

    #[test]
    fn a_question_that_cannot_be_read_ends_the_keeper() {
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
            let (counts, ledger) = (Counts::default(), Ledger::new(100));
            let [group, tracer] = pipe;
            let mut keeper = Keeper { group, tracer, ledger, serial: 0, counts: &counts };
            assert_eq!(keeper.questions(), goes_on);
            // SAFETY: opened above.
            let _ = pipe.map(|fd| unsafe { libc::close(fd) });
        }
    }

    #[test]
    fn too_many_do_not_wait() {
        let mut ledger = Ledger::new(100);
        for serial in 1..=MAX_WAITING as u64 {
            assert!(ledger.patient());
            ledger.add(1, serial, 0);
        }
        assert!(!ledger.patient());
        ledger.release(5);
        assert!(ledger.patient());
    }
}
