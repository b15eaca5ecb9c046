//! Writes that never wait for a reader, on a file that other processes share.
//!
//! O_NONBLOCK belongs to the open file description, which the shell and other programs share. A
//! pipe or terminal is therefore opened once more through /proc/self/fd (proc_pid_fd(5)), a socket
//! has a flag for each call (send(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{open, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{send, MsgFlags};
use nix::sys::stat::{fstat, Mode, SFlag};

/// Bytes of one write: a signal or a time limit waits for no more than this.
pub const CHUNK: usize = 1 << 16;

enum Kind {
    Socket,
    Other,
}

pub struct File {
    fd: OwnedFd,
    kind: Kind,
    pub terminal: bool,
    /// [`File::write`] returns at once, also where there is no room.
    pub never_waits: bool,
}

impl File {
    /// Of the descriptor `fd`, which stays open when this is closed. Of a regular file, and where
    /// a pipe or terminal cannot be opened once more, [`File::write`] waits as write(2) does.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<File> {
        let kind = SFlag::from_bits_truncate(fstat(fd)?.st_mode & SFlag::S_IFMT.bits());
        let terminal = kind == SFlag::S_IFCHR && nix::unistd::isatty(fd).unwrap_or(false);
        let again =
            if kind == SFlag::S_IFIFO || terminal { reopened(fd.as_raw_fd()) } else { None };
        let socket = kind == SFlag::S_IFSOCK;
        Ok(File {
            never_waits: socket || again.is_some(),
            // No /proc, no right, or no reader: the write itself says so.
            fd: again.map_or_else(|| fd.try_clone_to_owned(), Ok)?,
            kind: if socket { Kind::Socket } else { Kind::Other },
            terminal,
        })
    }

    /// Writes a part of `data`; how many bytes.
    pub fn write(&self, data: &[u8]) -> nix::Result<usize> {
        let part = &data[..data.len().min(CHUNK)];
        match self.kind {
            Kind::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(self.fd.as_raw_fd(), part, flags)
            }
            Kind::Other => nix::unistd::write(&self.fd, part),
        }
    }

    /// Waits for room, or until `wake` is readable.
    pub fn wait(&self, wake: BorrowedFd<'_>) {
        let mut polled = [
            PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT),
            PollFd::new(wake, PollFlags::POLLIN),
        ];
        // A failure (EINTR) is a wait that ended early: the caller writes again.
        let _: Result<_, Errno> = poll(&mut polled, PollTimeout::NONE);
    }
}

fn reopened(fd: RawFd) -> Option<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(format!("/proc/self/fd/{fd}").as_str(), flags, Mode::empty()).ok()
}
