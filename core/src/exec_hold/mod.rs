//! Executions of container runtimes are held until ig-py is ready for the container, or until a
//! deadline passes.
//!
//! A process of its own gives the answers (responder.rs), and only that process has the fanotify
//! group: the answers do not depend on this process being alive or running.

mod after_fork;
mod child;
pub mod fanotify;
mod ledger;
pub mod responder;
mod shared;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{open, OFlag};
use nix::sys::signal::{kill, Signal};
use nix::sys::socket::{
    recv, sendmsg, socketpair, AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType,
};
use nix::sys::stat::Mode;
use nix::sys::wait::{waitid, waitpid, Id, WaitPidFlag, WaitStatus};
use nix::unistd::Pid;

use crate::errors::{Error, Kind, Result};
use child::{copy_process, highest_descriptor, prepare, GROUP, PARENT};
use fanotify::Group;
use ledger::Bounds;
use responder::{respond, Counts, Request, MARK, TAKEN};
use shared::Shared;

/// No execution waits longer.
pub const MAX_DEADLINE: Duration = Duration::from_secs(10);
/// Nor longer than this when ig-py does not take it: then ig-py is stopped, or hangs.
pub const MAX_UNTAKEN: Duration = Duration::from_secs(1);

pub struct ExecHold {
    /// None once closed.
    process: Mutex<Option<Process>>,
    counts: Shared,
}

/// The responder, as its parent sees it.
struct Process {
    socket: OwnedFd,
    pid: Pid,
    guard: JoinHandle<()>,
}

fn refused(what: &str, cause: impl Into<io::Error>) -> Error {
    Error::new(Kind::Unsupported, format!("{what}: {}", cause.into()))
}

impl ExecHold {
    /// From now on executions of the files `paths` wait, at most `deadline`. The second value is
    /// the indexes of the paths that were marked: a file that is not there cannot be.
    pub fn open(paths: &[CString], deadline: Duration) -> Result<(ExecHold, Vec<usize>)> {
        let group = Group::new(fanotify::Kind::Ask).map_err(|e| refused("fanotify", e))?;
        // The responder runs before the first file is marked.
        let hold = ExecHold::of(&group, deadline)?;
        let mut marked = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            match group.mark(path) {
                Ok(()) => marked.push(index),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    // Then only the responder has the group: executions go on when it ends.
                    drop(group);
                    return Err(refused(&format!("marking {}", path.to_string_lossy()), e));
                }
            }
        }
        Ok((hold, marked))
    }

    /// Starts the process that answers for `group`.
    fn of(group: &Group, deadline: Duration) -> Result<ExecHold> {
        let counts = Shared::new().map_err(|e| refused("a shared page", e))?;
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|e| refused("/dev/null", e))?;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|e| refused("a socket pair", e))?;
        let highest = highest_descriptor();
        let bounds = Bounds {
            taken: MAX_UNTAKEN.as_nanos() as u64,
            released: deadline.min(MAX_DEADLINE).as_nanos() as u64,
        };
        let fds = [null.as_raw_fd(), theirs.as_raw_fd(), group.as_fd().as_raw_fd()];
        // SAFETY: the copy runs only the responder, which is made for that, and ends.
        let pid = unsafe { copy_process() };
        if pid == 0 {
            // SAFETY: in the copied process, whose other descriptors nothing uses.
            unsafe {
                if prepare(fds, highest) {
                    respond(GROUP, PARENT, bounds, counts.get());
                }
                libc::_exit(0)
            }
        }
        if pid < 0 {
            return Err(refused("a process that answers", io::Error::last_os_error()));
        }
        let pid = Pid::from_raw(pid);
        let guard = std::thread::Builder::new().name("ig-hold-guard".into());
        let guard = match guard.spawn(move || kill_when_stopped(pid)) {
            Ok(guard) => guard,
            Err(e) => {
                end(pid);
                return Err(refused("a thread", e));
            }
        };
        let process = Process { socket: ours, pid, guard };
        Ok(ExecHold { process: Mutex::new(Some(process)), counts })
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readable when there are requests; -1 once closed.
    pub fn fd(&self) -> RawFd {
        self.process().as_ref().map_or(-1, |p| p.socket.as_raw_fd())
    }

    /// The pid of the responder; 0 once closed.
    pub fn pid(&self) -> i32 {
        self.process().as_ref().map_or(0, |p| p.pid.as_raw())
    }

    /// The executions that have begun to wait since the last call; it never blocks. Fails when the
    /// responder has ended.
    pub fn requests(&self) -> Result<Vec<Request>> {
        let process = self.process();
        let process = process.as_ref().ok_or_else(|| Error::closed("the exec hold"))?;
        let mut found = Vec::new();
        let mut message = [0; size_of::<Request>()];
        loop {
            match recv(process.socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                Ok(length) if length == message.len() => found.push(Request::of(&message)),
                Err(Errno::EAGAIN) => return Ok(found),
                _ => return Err(Error::closed("the process that answers for container runtimes")),
            }
        }
    }

    /// One execution waits for its release. Nothing happens when it has gone on already, or the
    /// responder has ended.
    pub fn take(&self, serial: u64) {
        if let Some(process) = self.process().as_ref() {
            send(&process.socket, serial | TAKEN, None);
        }
    }

    /// Lets one execution go on. Nothing happens when it has already, or the responder has ended.
    pub fn release(&self, serial: u64) {
        if let Some(process) = self.process().as_ref() {
            send(&process.socket, serial, None);
        }
    }

    /// Marks the file that is at a path now.
    pub fn mark(&self, path: &CStr) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file =
            open(path, flags, Mode::empty()).map_err(|e| refused(&path.to_string_lossy(), e))?;
        if let Some(process) = self.process().as_ref() {
            send(&process.socket, MARK, Some(file.as_raw_fd()));
        }
        Ok(())
    }

    pub fn counts(&self) -> &Counts {
        self.counts.get()
    }

    /// Lets every execution go on and ends the responder.
    pub fn close(&self) {
        let Some(process) = self.process().take() else { return };
        drop(process.socket);
        // It may be stopped: closing the socket is not enough.
        let _ = kill(process.pid, Signal::SIGKILL);
        let _ = process.guard.join();
        end(process.pid);
    }
}

impl Drop for ExecHold {
    fn drop(&mut self) {
        self.close();
    }
}

/// Waits until the child has ended. A child that is stopped would answer nothing: it is killed,
/// and the kernel lets every execution go on.
fn kill_when_stopped(pid: Pid) {
    let mut flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WSTOPPED;
    loop {
        match waitid(Id::Pid(pid), flags) {
            Ok(WaitStatus::Stopped(..)) => {
                // The child has not been reaped: the pid is its own.
                let _ = kill(pid, Signal::SIGKILL);
                // With WNOWAIT, waitid would report the same stop again and again.
                flags.remove(WaitPidFlag::WSTOPPED);
            }
            Err(Errno::EINTR) => {}
            _ => return,
        }
    }
}

/// Ends and reaps the child.
fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    while waitpid(pid, None) == Err(Errno::EINTR) {}
}

/// Sends a number and perhaps a descriptor. The message is lost when the responder has ended or
/// its socket is full.
fn send(socket: &OwnedFd, serial: u64, file: Option<RawFd>) {
    let bytes = serial.to_ne_bytes();
    let files: Vec<RawFd> = file.into_iter().collect();
    let rights = [ControlMessage::ScmRights(&files)];
    let control = if files.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], control, flags, None);
}
