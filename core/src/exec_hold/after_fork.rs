//! fanotify(7) for the responder, which has been copied from a process with many threads: these
//! calls allocate nothing.

use std::io;
use std::os::fd::RawFd;

/// Bytes of an event: groups of this project ask for no further records.
pub const EVENT_SIZE: usize = size_of::<libc::fanotify_event_metadata>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The executed file, open; negative when events were lost.
    pub fd: RawFd,
    /// As the reader's pid namespace numbers it; 0 when it is not in there.
    pub pid: i32,
}

/// Marks an open file; false when the kernel refuses.
pub fn mark_file(group: RawFd, file: RawFd) -> bool {
    let mask = libc::FAN_OPEN_EXEC_PERM;
    // SAFETY: without a path, the descriptor itself is marked.
    unsafe { libc::fanotify_mark(group, libc::FAN_MARK_ADD, mask, file, std::ptr::null()) == 0 }
}

/// Reads as many events as the buffer has room for.
pub fn read(group: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is writable for its length.
    let n = unsafe { libc::read(group, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// The event at the start of what was read, and its length.
pub fn parse(bytes: &[u8]) -> Option<(Event, usize)> {
    let head = bytes.get(..EVENT_SIZE)?;
    // SAFETY: plain numbers, for which any bytes are valid, and EVENT_SIZE bytes are there.
    let meta: libc::fanotify_event_metadata =
        unsafe { std::ptr::read_unaligned(head.as_ptr().cast()) };
    let length = meta.event_len as usize;
    if length < EVENT_SIZE || meta.vers != libc::FANOTIFY_METADATA_VERSION {
        return None;
    }
    Some((Event { fd: meta.fd, pid: meta.pid }, length))
}

/// Lets the process that executes the file `fd` go on, and closes the file.
pub fn allow(group: RawFd, fd: RawFd) {
    let response = libc::fanotify_response { fd, response: libc::FAN_ALLOW };
    // SAFETY: the response is readable for its size, and the descriptor is the event's own.
    unsafe {
        libc::write(group, (&raw const response).cast(), size_of_val(&response));
        libc::close(fd);
    }
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
    fn bytes_that_are_no_event_end_the_reading() {
        let version = libc::FANOTIFY_METADATA_VERSION;
        assert!(parse(&event(EVENT_SIZE as u32, version, 5, 1)[..EVENT_SIZE - 1]).is_none());
        assert!(parse(&event(4, version, 5, 1)).is_none());
        assert!(parse(&event(EVENT_SIZE as u32, version + 1, 5, 1)).is_none());
    }
}
