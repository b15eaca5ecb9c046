//! fanotify(7), as far as needed: who executes one of some files.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::fds;

/// Bytes of an event: groups here ask for no further records.
pub const EVENT_SIZE: usize = size_of::<libc::fanotify_event_metadata>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events are told.
    Tell,
    /// Whoever executes waits for an answer.
    Ask,
}

/// A group with its marks; all is gone, and everybody who waits is let go, when the last
/// descriptor is closed.
pub struct Group {
    fd: OwnedFd,
    mask: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of the executed file, open; negative: some events were lost.
    pub fd: RawFd,
    /// As the reader's pid namespace numbers it; 0 when it is not in there.
    pub pid: i32,
}

impl Group {
    pub fn new(kind: Kind) -> io::Result<Group> {
        let (class, mask) = match kind {
            Kind::Tell => (libc::FAN_CLASS_NOTIF, libc::FAN_OPEN_EXEC),
            // Events beyond a limited queue would be denied their answer's chance.
            Kind::Ask => {
                (libc::FAN_CLASS_CONTENT | libc::FAN_UNLIMITED_QUEUE, libc::FAN_OPEN_EXEC_PERM)
            }
        };
        let flags = class | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        let files = (libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC) as libc::c_uint;
        // SAFETY: no pointers; a fresh descriptor.
        let fd = unsafe { fds::owned(libc::fanotify_init(flags, files)) }?;
        Ok(Group { fd, mask })
    }

    pub fn mark(&self, path: &CStr) -> io::Result<()> {
        // SAFETY: the string ends with NUL and lives through the call.
        let done = unsafe {
            libc::fanotify_mark(
                self.fd.as_raw_fd(),
                libc::FAN_MARK_ADD,
                self.mask,
                libc::AT_FDCWD,
                path.as_ptr(),
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Marks an open file; false when that is refused. For use after a fork: it allocates nothing.
pub fn mark_file(group: RawFd, file: RawFd) -> bool {
    let mask = libc::FAN_OPEN_EXEC_PERM;
    // SAFETY: without a name, the descriptor itself is meant.
    unsafe { libc::fanotify_mark(group, libc::FAN_MARK_ADD, mask, file, std::ptr::null()) == 0 }
}

/// Events that wait in a group, as many as fit. For use after a fork: it allocates nothing.
pub fn read(group: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is writable for its length.
    let n = unsafe { libc::read(group, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// The event at the start of what was read, and how long it is.
pub fn parse(bytes: &[u8]) -> Option<(Event, usize)> {
    let head = bytes.get(..EVENT_SIZE)?;
    // SAFETY: plain numbers, of which any bytes make some, and EVENT_SIZE bytes are there.
    let meta: libc::fanotify_event_metadata =
        unsafe { std::ptr::read_unaligned(head.as_ptr().cast()) };
    let length = meta.event_len as usize;
    if length < EVENT_SIZE || meta.vers != libc::FANOTIFY_METADATA_VERSION {
        return None;
    }
    Some((Event { fd: meta.fd, pid: meta.pid }, length))
}

/// Lets whoever executes go on. For use after a fork: it allocates nothing.
pub fn allow(group: RawFd, fd: RawFd) {
    let response = libc::fanotify_response { fd, response: libc::FAN_ALLOW };
    // SAFETY: the response is readable for its size, and the descriptor is the event's own.
    unsafe {
        libc::write(group, (&raw const response).cast(), size_of_val(&response));
        libc::close(fd);
    }
}

/// Who executes one of the marked files, told afterwards.
pub struct Watch {
    group: Group,
}

/// Bytes read at once.
const CHUNK: usize = 64 * EVENT_SIZE;

impl Watch {
    pub fn new() -> io::Result<Watch> {
        Ok(Watch { group: Group::new(Kind::Tell)? })
    }

    pub fn mark(&self, path: &CStr) -> io::Result<()> {
        self.group.mark(path)
    }

    pub fn raw(&self) -> RawFd {
        self.group.raw()
    }

    /// Processes in order; 0 for one of another pid namespace, negative where some were lost.
    pub fn read(&self) -> io::Result<Vec<i32>> {
        let mut buffer = [0u8; CHUNK];
        let n = match read(self.group.raw(), &mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut found = Vec::new();
        let mut rest = &buffer[..n];
        while let Some((event, length)) = parse(rest) {
            if event.fd >= 0 {
                // SAFETY: the kernel opened it for us just now.
                drop(unsafe { OwnedFd::from_raw_fd(event.fd) });
            }
            found.push(if event.fd == libc::FAN_NOFD { -1 } else { event.pid });
            rest = rest.get(length..).unwrap_or_default();
        }
        if !rest.is_empty() {
            // An event that cannot be read: nobody knows how many came behind it.
            found.push(-1);
        }
        Ok(found)
    }
}

/// Why nobody can be made to wait here; None: it works.
pub fn refusal() -> Option<io::Error> {
    // Nobody executes a directory, so nobody is held by this mark.
    Group::new(Kind::Ask).and_then(|group| group.mark(c"/")).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(length: u32, version: u8, fd: i32, pid: i32) -> Vec<u8> {
        let meta = libc::fanotify_event_metadata {
            event_len: length,
            vers: version,
            reserved: 0,
            metadata_len: EVENT_SIZE as u16,
            mask: 0,
            fd,
            pid,
        };
        // SAFETY: a plain structure without padding.
        let bytes: [u8; EVENT_SIZE] = unsafe { std::mem::transmute(meta) };
        bytes.to_vec()
    }

    #[test]
    fn events_are_read_one_behind_the_other() {
        let version = libc::FANOTIFY_METADATA_VERSION;
        let mut bytes = event(EVENT_SIZE as u32 + 8, version, 5, 77);
        bytes.extend([0; 8]);
        bytes.extend(event(EVENT_SIZE as u32, version, libc::FAN_NOFD, 0));
        let (first, length) = parse(&bytes).unwrap();
        assert_eq!((first, length), (Event { fd: 5, pid: 77 }, EVENT_SIZE + 8));
        assert_eq!(parse(&bytes[length..]).unwrap().0.fd, libc::FAN_NOFD);
    }

    #[test]
    fn what_is_no_event_ends_the_reading() {
        let version = libc::FANOTIFY_METADATA_VERSION;
        assert!(parse(&event(EVENT_SIZE as u32, version, 5, 1)[..EVENT_SIZE - 1]).is_none());
        assert!(parse(&event(4, version, 5, 1)).is_none());
        assert!(parse(&event(EVENT_SIZE as u32, version + 1, 5, 1)).is_none());
    }
}
