//! Opens files below a container's root with openat2(2) (Linux 5.6). No link leads out of the root,
//! and only regular files are opened for reading.

use std::ffi::CString;
use std::fs::{read_dir, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::ldcache;
use crate::fds::owned;

/// The directories of libraries, for roots without a cache (musl; images without a shell) or whose
/// cache does not have the library. Debian's C library searches one of the architecture.
const DIRECTORIES: [&str; 10] = [
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/lib64",
    "/usr/lib64",
    "/usr/local/lib64",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];
pub const MAX_DIRECTORY: usize = 65_536;
const CACHE: &str = "/etc/ld.so.cache";

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// `struct open_how` of openat2(2).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn openat2(root: BorrowedFd<'_>, path: &str, flags: i32) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    // SAFETY: path and how outlive the call, whose last argument is the size of how; a fresh
    // descriptor.
    unsafe {
        owned(libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        ))
    }
}

/// A regular file below `root`, for reading.
pub fn open(root: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    reopen(&File::from(openat2(root, path, libc::O_PATH)?))
}

/// The regular file that `link` leads to: a magic link of /proc, or a path that no other user can
/// change.
pub fn open_link(link: impl AsRef<Path>) -> io::Result<File> {
    reopen(&OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(link)?)
}

/// `place`, an `O_PATH` descriptor, for reading: the very file that is looked at. Opening a device
/// may do something; the owner of a file can make an open that may block wait for as long as
/// a lease lasts (fcntl(2), F_SETLEASE).
fn reopen(place: &File) -> io::Result<File> {
    if !place.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

/// Paths of the library `name` below `root`: those in its ld.so.cache, else those in the usual
/// directories.
pub fn libraries(root: BorrowedFd<'_>, name: &str) -> super::Result<Vec<String>> {
    let mut found = Vec::new();
    match open(root, CACHE) {
        Ok(file) => {
            let size = file.metadata()?.len();
            let file = super::FileBytes::new(file)?;
            found = ldcache::find(&super::read(&file, 0, size, ldcache::MAX_SIZE)?, name)?;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    if found.is_empty() {
        for directory in DIRECTORIES {
            in_directory(root, directory, name, &mut found);
        }
    }
    Ok(found)
}

/// Files of `directory` with the library's name; musl's C library has another name.
fn in_directory(root: BorrowedFd<'_>, directory: &str, name: &str, found: &mut Vec<String>) {
    let Ok(fd) = openat2(root, directory, libc::O_RDONLY | libc::O_DIRECTORY) else { return };
    let Ok(entries) = read_dir(format!("/proc/self/fd/{}", fd.as_raw_fd())) else { return };
    let (shared, musl) = (format!("{name}.so"), format!("{name}.musl-"));
    for entry in entries.flatten().take(MAX_DIRECTORY) {
        let file = entry.file_name();
        let bytes = file.as_bytes();
        if !bytes.starts_with(shared.as_bytes()) && !bytes.starts_with(musl.as_bytes()) {
            continue;
        }
        if let (Ok(text), true) = (std::str::from_utf8(bytes), found.len() < ldcache::MAX_FOUND) {
            found.push(format!("{directory}/{text}"));
        }
    }
    found.sort();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A directory that is removed when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("ig-py-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn fd(&self) -> File {
            File::open(&self.0).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn links_stay_inside() {
        let scratch = Scratch::new("links");
        let root = scratch.fd();
        std::fs::write(scratch.0.join("inside"), b"x").unwrap();
        symlink("/inside", scratch.0.join("good")).unwrap();
        symlink("/etc/passwd", scratch.0.join("absolute")).unwrap();
        symlink("../../../../etc/passwd", scratch.0.join("up")).unwrap();
        symlink("/proc/self/root/etc/passwd", scratch.0.join("magic")).unwrap();
        assert!(open(root.as_fd(), "/good").is_ok());
        assert!(open(root.as_fd(), "/../../good").is_ok());
        for path in ["/absolute", "/up", "/magic", "/../../../etc/passwd", "/none"] {
            let e = open(root.as_fd(), path).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::NotFound, "{path}");
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let scratch = Scratch::new("kinds");
        let root = scratch.fd();
        let fifo = CString::new(scratch.0.join("fifo").as_os_str().as_bytes()).unwrap();
        // SAFETY: a live string.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        std::fs::create_dir(scratch.0.join("directory")).unwrap();
        for path in ["/fifo", "/directory", "/"] {
            assert!(open(root.as_fd(), path).is_err(), "{path}");
        }
        assert!(open(root.as_fd(), "/a\0b").is_err());
    }

    #[test]
    fn a_lease_is_not_waited_for() {
        let scratch = Scratch::new("lease");
        let path = scratch.0.join("file");
        std::fs::write(&path, b"x").unwrap();
        let holder = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // SAFETY: plain numbers and open descriptors; the signal that asks for the lease back,
        // SIGIO, would end the process.
        unsafe {
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            assert_eq!(libc::fcntl(holder.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK), 0);
        }
        for result in [open(scratch.fd().as_fd(), "/file"), open_link(&path)] {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        drop(holder);
        assert!(open_link(&path).is_ok());
        assert!(open_link("/dev/zero").is_err() && open_link("/dev").is_err());
    }

    #[test]
    fn libraries_without_a_cache() {
        let scratch = Scratch::new("musl");
        std::fs::create_dir_all(scratch.0.join("usr/lib")).unwrap();
        symlink("usr/lib", scratch.0.join("lib")).unwrap();
        for name in ["libc.musl-x86_64.so.1", "libssl.so.3", "libsslx.a"] {
            std::fs::write(scratch.0.join("usr/lib").join(name), b"x").unwrap();
        }
        let root = scratch.fd();
        let found = |name| libraries(root.as_fd(), name).unwrap();
        assert_eq!(found("libc"), ["/lib/libc.musl-x86_64.so.1", "/usr/lib/libc.musl-x86_64.so.1"]);
        assert_eq!(found("libssl"), ["/lib/libssl.so.3", "/usr/lib/libssl.so.3"]);
        assert_eq!(found("libz"), Vec::<String>::new());
    }

    #[test]
    fn a_cache_that_never_ends_is_an_error() {
        let scratch = Scratch::new("huge");
        std::fs::create_dir(scratch.0.join("etc")).unwrap();
        let cache = File::create(scratch.0.join("etc/ld.so.cache")).unwrap();
        cache.set_len(1 << 40).unwrap();
        let error = libraries(scratch.fd().as_fd(), "libc").unwrap_err();
        assert!(error.0.contains("at most"), "{error}");
    }
}
