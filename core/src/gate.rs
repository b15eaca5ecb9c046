//! Container runtimes wait, when they are executed, until the tracer is ready or a deadline passes.
//!
//! The answers are given by a process of its own (gatekeeper.rs), which alone holds the fanotify
//! group: so they do not depend on this one being alive, or running.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::errors::{Error, Kind, Result};
use crate::fanotify::{self, Group};
use crate::fds;
use crate::gatekeeper::{self, Counts, Request, MARK};

/// No runtime waits longer.
pub const MAX_DEADLINE: Duration = Duration::from_millis(100);
/// Descriptors that the keeper may need: those who wait, and its own.
const DESCRIPTORS: libc::rlim_t = 256;
/// Its own, from 0 on: three of /dev/null, then these.
const TRACER: RawFd = 3;
const GROUP: RawFd = 4;
const NAME: &CStr = c"ig-gate";
/// Descriptors that are closed one by one where nobody knows how many there are.
const MANY: RawFd = 1 << 16;
/// Those that other threads may open between counting and copying the process.
const MEANWHILE: RawFd = 256;

pub struct Gate {
    keeper: Mutex<Option<Keeper>>,
    counts: Shared,
}

struct Keeper {
    socket: OwnedFd,
    pid: libc::pid_t,
    guard: JoinHandle<()>,
}

/// A page that both processes see.
struct Shared(*mut Counts);

// SAFETY: it points to atomics in a mapping that lives as long as this.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> io::Result<Shared> {
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

    fn get(&self) -> &Counts {
        // SAFETY: mapped for as long as self lives, and only accessed as atomics.
        unsafe { &*self.0 }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by new, and nobody holds a reference any more.
        unsafe { libc::munmap(self.0.cast(), size_of::<Counts>()) };
    }
}

fn refused(what: &str, cause: &io::Error) -> Error {
    Error::new(Kind::Unsupported, format!("{what}: {cause}"))
}

fn last(what: &str) -> Error {
    refused(what, &io::Error::last_os_error())
}

impl Gate {
    /// Whoever executes one of `paths` waits from now on, at most `deadline`. The second value
    /// are those paths that could be marked: files that are not there cannot.
    pub fn open(paths: &[CString], deadline: Duration) -> Result<(Gate, Vec<usize>)> {
        let group = Group::new(fanotify::Kind::Ask).map_err(|e| refused("fanotify", &e))?;
        // Nobody waits before there is somebody who answers.
        let gate = Gate::of(&group, deadline)?;
        let mut marked = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            match group.mark(path) {
                Ok(()) => marked.push(index),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    // The last descriptor but the keeper's: who waits goes on when that one ends.
                    drop(group);
                    return Err(refused(&format!("marking {}", path.to_string_lossy()), &e));
                }
            }
        }
        Ok((gate, marked))
    }

    /// Begins the process that answers for `group`.
    fn of(group: &Group, deadline: Duration) -> Result<Gate> {
        let counts = Shared::new().map_err(|e| refused("a shared page", &e))?;
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = OwnedFd::from(null.map_err(|e| refused("/dev/null", &e))?);
        let mut pair = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: two writable numbers.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) } < 0 {
            return Err(last("a socket pair"));
        }
        // SAFETY: fresh descriptors owned by nobody else.
        let [ours, theirs] = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let highest = highest_descriptor();
        let deadline = deadline.min(MAX_DEADLINE).as_nanos() as u64;
        let fds = [null.as_raw_fd(), theirs.as_raw_fd(), group.raw()];
        // The system call itself: glibc's fork() would first take locks and call what libraries
        // have asked it to. Flags and stack come first on x86-64 and on arm64; what comes behind
        // has another order on each, and is not used.
        let (signal, none) = (libc::c_long::from(libc::SIGCHLD), 0 as libc::c_long);
        // SAFETY: a copy of this process; it only runs what is made for it, and ends.
        let pid = unsafe { libc::syscall(libc::SYS_clone, signal, none, none, none, none) };
        if pid == 0 {
            // SAFETY: in a process of its own, whose other descriptors nobody needs.
            unsafe {
                if prepare(fds, highest) {
                    gatekeeper::keep(GROUP, TRACER, deadline, counts.get());
                }
                libc::_exit(0)
            }
        }
        if pid < 0 {
            return Err(last("a process that answers"));
        }
        let pid = pid as libc::pid_t;
        let guard = std::thread::Builder::new().name("ig-gate-guard".into());
        let guard = match guard.spawn(move || guard_against_stops(pid)) {
            Ok(guard) => guard,
            Err(e) => {
                end(pid);
                return Err(refused("a thread", &e));
            }
        };
        let keeper = Keeper { socket: ours, pid, guard };
        Ok(Gate { keeper: Mutex::new(Some(keeper)), counts })
    }

    fn keeper(&self) -> MutexGuard<'_, Option<Keeper>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readable when there are requests; -1 once closed.
    pub fn fd(&self) -> RawFd {
        self.keeper().as_ref().map_or(-1, |k| k.socket.as_raw_fd())
    }

    /// Of the process that answers; 0 once closed.
    pub fn pid(&self) -> i32 {
        self.keeper().as_ref().map_or(0, |k| k.pid)
    }

    /// Who waits since the last call; it never blocks. Fails when the keeper has ended.
    pub fn requests(&self) -> Result<Vec<Request>> {
        let keeper = self.keeper();
        let keeper = keeper.as_ref().ok_or_else(|| Error::closed("the gate"))?;
        let mut found = Vec::new();
        loop {
            let mut request = Request { serial: 0, pid: 0, unused: 0 };
            let size = size_of::<Request>();
            // SAFETY: the request is writable for its size, and any bytes make one.
            let n = unsafe {
                let at = (&raw mut request).cast();
                libc::recv(keeper.socket.as_raw_fd(), at, size, libc::MSG_DONTWAIT)
            };
            if n == size as isize {
                found.push(request);
                continue;
            }
            if n < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                return Ok(found);
            }
            return Err(Error::closed("the process that answers for container runtimes"));
        }
    }

    /// Lets one go on. Nothing happens when it has already, or the keeper has ended.
    pub fn release(&self, serial: u64) {
        if let Some(keeper) = self.keeper().as_ref() {
            send(&keeper.socket, serial, None);
        }
    }

    /// Marks a file that has come, or come anew, at some path.
    pub fn mark(&self, path: &CStr) -> Result<()> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: the string ends with NUL and lives through the call, which gives a fresh one.
        let file = unsafe { fds::owned(libc::open(path.as_ptr(), flags)) }
            .map_err(|e| refused(&path.to_string_lossy(), &e))?;
        if let Some(keeper) = self.keeper().as_ref() {
            send(&keeper.socket, MARK, Some(file.as_raw_fd()));
        }
        Ok(())
    }

    pub fn counts(&self) -> &Counts {
        self.counts.get()
    }

    /// Lets everybody go and ends the keeper.
    pub fn close(&self) {
        let Some(keeper) = self.keeper().take() else { return };
        drop(keeper.socket);
        // SAFETY: our child, not waited for yet. It may have been stopped: asking is not enough.
        unsafe { libc::kill(keeper.pid, libc::SIGKILL) };
        let _ = keeper.guard.join();
        end(keeper.pid);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

/// Waits until the child has ended. Nobody could wait for one that was stopped: it is killed, and
/// the kernel lets everybody go.
fn guard_against_stops(pid: libc::pid_t) {
    let mut stopped = libc::WSTOPPED;
    loop {
        // SAFETY: zeros are a valid structure, which the call fills; the child is not reaped.
        let (done, code) = unsafe {
            let mut info: libc::siginfo_t = zeroed();
            let which = libc::WEXITED | libc::WNOWAIT | stopped;
            let done = libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, which);
            (done, info.si_code)
        };
        if done == 0 && code == libc::CLD_STOPPED {
            // SAFETY: our child, not reaped yet, so that the number is its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            // Without being reaped it would be told to have stopped again and again.
            stopped = 0;
        } else if done == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn end(pid: libc::pid_t) {
    // SAFETY: our child, not reaped yet.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        while libc::waitpid(pid, std::ptr::null_mut(), 0) < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
}

/// A number, and perhaps a descriptor; a keeper that has ended or is too slow gets neither.
fn send(socket: &OwnedFd, serial: u64, file: Option<RawFd>) {
    let mut control = [0u64; 8];
    let mut part =
        libc::iovec { iov_base: (&raw const serial).cast_mut().cast(), iov_len: size_of::<u64>() };
    // SAFETY: zeros are a valid header; what it points to outlives the call, and the control
    // buffer has room for one descriptor.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if let Some(file) = file {
            let size = size_of::<RawFd>() as libc::c_uint;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(size) as _;
            std::ptr::write_unaligned(libc::CMSG_DATA(head).cast::<RawFd>(), file);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, flags);
    }
}

/// The highest descriptor of this process; where that cannot be read, the highest it may have,
/// as far as one loop over them is quick.
fn highest_descriptor() -> RawFd {
    let open = std::fs::read_dir("/proc/self/fd").map(|names| {
        names.flatten().filter_map(|name| name.file_name().to_str()?.parse().ok()).max()
    });
    if let Ok(Some(highest)) = open {
        return highest;
    }
    // SAFETY: zeros are a valid limit, which the call fills.
    let limit = unsafe {
        let mut limit: libc::rlimit = zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur
    };
    RawFd::try_from(limit).map_or(MANY, |limit| limit.min(MANY))
}

/// Closes what is open from `first` on, for kernels before 5.9, up to `highest` and those which
/// other threads may have opened meanwhile: the lowest free numbers.
///
/// # Safety
/// Nobody may need them.
unsafe fn close_each(first: RawFd, highest: RawFd) {
    for fd in first..=highest.saturating_add(MEANWHILE) {
        // SAFETY: the caller vouches for it.
        unsafe { libc::close(fd) };
    }
}

/// Makes the copied process one of its own: nothing of the tracer's stays open (programs would
/// stay attached), no signal of its terminal or group reaches it. False: it cannot.
///
/// # Safety
/// Only in a process that ends with this.
unsafe fn prepare([null, tracer, group]: [RawFd; 3], highest: RawFd) -> bool {
    // Out of the way of the numbers that they are to have.
    const ASIDE: RawFd = 16;
    // SAFETY: system calls on numbers; pointers are to structures on the stack.
    unsafe {
        libc::setsid();
        let mut all: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr(), 0, 0, 0);
        libc::chdir(c"/".as_ptr());
        let aside = [null, tracer, group].map(|fd| libc::fcntl(fd, libc::F_DUPFD, ASIDE));
        let [null, tracer, group] = aside;
        for (from, to) in [(null, 0), (null, 1), (null, 2), (tracer, TRACER), (group, GROUP)] {
            if libc::dup2(from, to) < 0 {
                return false;
            }
        }
        if libc::syscall(libc::SYS_close_range, GROUP + 1, libc::c_uint::MAX, 0) < 0 {
            close_each(GROUP + 1, highest);
        }
        let mut limit: libc::rlimit = zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = DESCRIPTORS.min(limit.rlim_max);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_closed_one_by_one_up_to_the_highest() {
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        // SAFETY: an open descriptor; the copy is fresh.
        let high = unsafe { fds::owned(libc::fcntl(null.as_raw_fd(), libc::F_DUPFD, 700)) };
        let high = high.unwrap();
        let highest = highest_descriptor();
        assert!((high.as_raw_fd()..MANY).contains(&highest), "{highest}");
        // SAFETY: the copy of this process only closes, asks and ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe {
                close_each(3, highest);
                let open = (3..MANY).filter(|fd| libc::fcntl(*fd, libc::F_GETFD) >= 0).count();
                libc::_exit(i32::from(open > 0));
            }
        }
        let mut status = -1;
        // SAFETY: our child, and a writable number.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
    }
}
