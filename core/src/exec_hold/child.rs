//! Making the responder's process: a copy of this one, separated from it.

use std::ffi::CStr;
use std::mem::zeroed;
use std::os::fd::RawFd;

use nix::sys::resource::{getrlimit, Resource};

/// The responder's descriptors. 0 to 2 are /dev/null.
pub const PARENT: RawFd = 3;
pub const GROUP: RawFd = 4;
/// Descriptors that the responder may need: executed files that wait, and its own.
const DESCRIPTORS: libc::rlim_t = 256;
const NAME: &CStr = c"ig-exec-hold";
/// Descriptors that are closed one by one where their number is not known.
const MANY: RawFd = 1 << 16;
/// Descriptors that other threads may open between counting and copying the process.
const MEANWHILE: RawFd = 256;

/// Copies this process; the result is that of fork(2).
///
/// # Safety
/// The copy may only run code that allocates nothing and takes no lock, and has to end itself.
pub unsafe fn copy_process() -> libc::pid_t {
    // The system call itself: glibc's fork() would first take locks and run the handlers of
    // pthread_atfork(3). Flags and stack come first on x86-64 and on arm64; the arguments behind
    // them have another order on each, and are not used.
    let (signal, none) = (libc::c_long::from(libc::SIGCHLD), 0 as libc::c_long);
    // SAFETY: the caller vouches for the copy.
    unsafe { libc::syscall(libc::SYS_clone, signal, none, none, none, none) as libc::pid_t }
}

/// The highest open descriptor of this process. Where /proc does not tell it, the highest that the
/// process may open, but not more than can be closed quickly.
pub fn highest_descriptor() -> RawFd {
    let open = std::fs::read_dir("/proc/self/fd").map(|names| {
        names.flatten().filter_map(|name| name.file_name().to_str()?.parse().ok()).max()
    });
    if let Ok(Some(highest)) = open {
        return highest;
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    RawFd::try_from(limit).map_or(MANY, |limit| limit.min(MANY))
}

/// Closes the descriptors from `first` on, for kernels without close_range(2) (before 5.9): up to
/// `highest`, and further ones that other threads may have opened meanwhile.
///
/// # Safety
/// Nothing may use them afterwards.
pub unsafe fn close_each(first: RawFd, highest: RawFd) {
    for fd in first..=highest.saturating_add(MEANWHILE) {
        // SAFETY: the caller vouches for it.
        unsafe { libc::close(fd) };
    }
}

/// Separates the copied process from its parent: it keeps no descriptor of the parent's (eBPF
/// programs would stay attached), and signals of the parent's terminal and process group do not
/// reach it. False when a call fails.
///
/// # Safety
/// Only for the copied process, which has to end afterwards.
pub unsafe fn prepare([null, parent, group]: [RawFd; 3], highest: RawFd) -> bool {
    // Above the numbers that they are to get.
    const ASIDE: RawFd = 16;
    // SAFETY: system calls on numbers; pointers are to structures on the stack.
    unsafe {
        libc::setsid();
        let mut all: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr(), 0, 0, 0);
        libc::chdir(c"/".as_ptr());
        let aside = [null, parent, group].map(|fd| libc::fcntl(fd, libc::F_DUPFD, ASIDE));
        let [null, parent, group] = aside;
        for (from, to) in [(null, 0), (null, 1), (null, 2), (parent, PARENT), (group, GROUP)] {
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
    use std::fs::File;
    use std::os::fd::{AsRawFd, OwnedFd};

    use super::*;
    use crate::fds;

    #[test]
    fn descriptors_are_closed_one_by_one_up_to_the_highest() {
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        // SAFETY: an open descriptor; the copy is fresh.
        let high = unsafe { fds::owned(libc::fcntl(null.as_raw_fd(), libc::F_DUPFD, 700)) };
        let high = high.unwrap();
        let highest = highest_descriptor();
        assert!((high.as_raw_fd()..MANY).contains(&highest), "{highest}");
        // SAFETY: the copy of this process only makes system calls and ends.
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
