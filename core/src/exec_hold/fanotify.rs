//! fanotify(7): groups that report executions of marked files, or ask about them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The group is told of executions.
    Tell,
    /// A process that executes a marked file waits for the group's answer.
    Ask,
}

/// A group with its marks. When its last descriptor is closed, the kernel removes the marks and
/// lets every process that waits for an answer go on.
pub struct Group {
    inner: Fanotify,
    mask: MaskFlags,
}

impl Group {
    pub fn new(kind: Kind) -> io::Result<Group> {
        let (class, mask) = match kind {
            Kind::Tell => (InitFlags::FAN_CLASS_NOTIF, MaskFlags::FAN_OPEN_EXEC),
            // The kernel would deny executions for which a bounded queue has no room.
            Kind::Ask => (
                InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_UNLIMITED_QUEUE,
                MaskFlags::FAN_OPEN_EXEC_PERM,
            ),
        };
        let flags = class | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let files = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC;
        Ok(Group { inner: Fanotify::init(flags, files)?, mask })
    }

    pub fn mark(&self, path: &CStr) -> io::Result<()> {
        Ok(self.inner.mark(MarkFlags::FAN_MARK_ADD, self.mask, AT_FDCWD, Some(path))?)
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Reports executions of the marked files, after they have happened.
pub struct ExecWatch {
    group: Group,
}

impl ExecWatch {
    pub fn new() -> io::Result<ExecWatch> {
        Ok(ExecWatch { group: Group::new(Kind::Tell)? })
    }

    pub fn mark(&self, path: &CStr) -> io::Result<()> {
        self.group.mark(path)
    }

    pub fn raw(&self) -> RawFd {
        self.group.as_fd().as_raw_fd()
    }

    /// Processes in order; 0 for one of another pid namespace, negative where events were lost.
    pub fn read(&self) -> io::Result<Vec<i32>> {
        let events = match self.group.inner.read_events() {
            Ok(events) => events,
            Err(nix::errno::Errno::EAGAIN) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let is_complete =
            |e: &nix::sys::fanotify::FanotifyEvent| e.check_version() && e.fd().is_some();
        Ok(events.iter().map(|e| if is_complete(e) { e.pid() } else { -1 }).collect())
    }
}

/// Why executions cannot be held here; None when they can.
pub fn refusal() -> Option<io::Error> {
    // A directory is never executed: this mark holds no process.
    Group::new(Kind::Ask).and_then(|group| group.mark(c"/")).err()
}
