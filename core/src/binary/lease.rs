//! A file that stays as it is while a library of others reads it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Of fcntl(2); include/uapi/asm-generic/fcntl.h.
const F_SETSIG: i32 = 10;

/// As long as this is there, no process can open the file for writing or truncate it: it waits,
/// 45 s at most (fcntl(2), F_SETLEASE). A mapped file that is truncated ends its reader by SIGBUS.
pub struct Lease<'f> {
    file: &'f File,
    held: bool,
}

impl Lease<'_> {
    /// Where the file system has no leases, or the file is another user's and the right CAP_LEASE
    /// is missing, the file can change.
    ///
    /// # Errors
    /// The file is open for writing.
    pub fn take(file: &File) -> io::Result<Lease<'_>> {
        let fd = file.as_raw_fd();
        // SAFETY: an open descriptor and plain numbers. The signal that asks for the lease back is
        // one that nothing waits for, and that is ignored by default: SIGIO would end the process.
        let taken = unsafe {
            libc::fcntl(fd, F_SETSIG, libc::SIGURG);
            libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK)
        };
        if taken == 0 {
            return Ok(Lease { file, held: true });
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(Lease { file, held: false }),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.held {
            // SAFETY: an open descriptor and plain numbers.
            unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn a_file_is_not_truncated_as_long_as_it_is_read() {
        let path = std::env::temp_dir().join(format!("ig-py-held-{}", std::process::id()));
        std::fs::write(&path, b"content").unwrap();
        let file = File::open(&path).unwrap();
        let lease = Lease::take(&file).unwrap();
        let (done, ended) = channel();
        let other = path.clone();
        let writer = std::thread::spawn(move || {
            std::fs::write(other, b"").unwrap();
            done.send(()).unwrap();
        });
        assert!(ended.recv_timeout(Duration::from_millis(100)).is_err());
        assert_eq!(file.metadata().unwrap().len(), 7);
        drop(lease);
        writer.join().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        let error = Lease::take(&file).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(writer);
        assert!(Lease::take(&file).is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
