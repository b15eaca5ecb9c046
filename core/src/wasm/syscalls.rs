//! Declarations of system calls, from the formats of their tracepoints in tracefs.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{openat, OFlag};
use nix::sys::stat::Mode;

const DIRECTORIES: [&str; 2] =
    ["/sys/kernel/tracing/events/syscalls", "/sys/kernel/debug/tracing/events/syscalls"];
const MAX_FORMAT: u64 = 1 << 16;
const PARAMETERS: usize = 6;
const NAME: usize = 32;
/// Bytes of a parameter: its name, and flags.
const PARAMETER: usize = NAME + 4;
/// Bytes of a declaration: name, number of parameters, three bytes of padding, the parameters.
pub const SIZE: usize = NAME + 4 + PARAMETERS * PARAMETER;
const POINTER: u32 = 1;

/// Names of system calls whose tracepoints are named otherwise.
const TRACEPOINTS: [(&str, &str); 7] = [
    ("fstat", "newfstat"),
    ("lstat", "newlstat"),
    ("stat", "newstat"),
    ("uname", "newuname"),
    ("sendfile", "sendfile64"),
    ("_sysctl", "sysctl"),
    ("umount2", "umount"),
];

/// The directory with the formats. It stays readable when tracefs is unmounted.
#[derive(Default)]
pub struct Declarations {
    directory: Option<OwnedFd>,
}

impl Declarations {
    /// Opens the directory where tracefs is mounted now; false when it is mounted nowhere.
    pub fn open(&mut self) -> bool {
        let open = |path: &&str| {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            nix::fcntl::open(*path, flags, Mode::empty()).ok()
        };
        self.directory = DIRECTORIES.iter().find_map(open);
        self.directory.is_some()
    }

    /// The declaration of a system call, as the module reads it.
    pub fn of(&self, name: &str) -> Result<[u8; SIZE], String> {
        let directory = self.directory.as_ref().ok_or("tracefs is not mounted")?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("{name:?} is no name of a system call"));
        }
        let renamed = TRACEPOINTS.iter().find(|(known, _)| *known == name).map(|(_, t)| *t);
        let path = format!("sys_enter_{}/format", renamed.unwrap_or(name));
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let fd = openat(directory.as_fd(), path.as_str(), flags, Mode::empty())
            .map_err(|e| format!("system call {name:?} has no tracepoint: {e}"))?;
        let mut text = String::new();
        File::from(fd)
            .take(MAX_FORMAT)
            .read_to_string(&mut text)
            .map_err(|e| format!("reading the format of {name:?}: {e}"))?;
        Ok(declaration(name, &text))
    }
}

fn put(out: &mut [u8], text: &str) {
    // The last byte stays NUL.
    let length = text.len().min(NAME - 1);
    out[..length].copy_from_slice(&text.as_bytes()[..length]);
}

/// Lines are `field:TYPE NAME; offset:N; size:N; signed:N;`. The parameters follow
/// `__syscall_nr`.
fn declaration(name: &str, format: &str) -> [u8; SIZE] {
    let mut out = [0; SIZE];
    put(&mut out[..NAME], name);
    let fields = format.lines().filter_map(|line| {
        let declared = line.trim().strip_prefix("field:")?.split(';').next()?;
        declared.rsplit_once(|c: char| c.is_whitespace() || c == '*').map(|(kind, name)| {
            (declared[..declared.len() - name.len()].contains('*') || kind.contains('*'), name)
        })
    });
    let parameters = fields.skip_while(|(_, name)| *name != "__syscall_nr").skip(1);
    let mut count = 0;
    for (pointer, name) in parameters.take(PARAMETERS) {
        let at = NAME + 4 + count * PARAMETER;
        put(&mut out[at..at + NAME], name);
        let flags = if pointer { POINTER } else { 0 };
        out[at + NAME..at + PARAMETER].copy_from_slice(&flags.to_le_bytes());
        count += 1;
    }
    out[NAME] = count as u8;
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_become_declarations() {
        let format = "name: sys_enter_openat\nID: 1\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
            \tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\
            \tfield:int dfd;\toffset:16;\tsize:8;\tsigned:0;\n\
            \tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;\n\
            \tfield:umode_t mode;\toffset:40;\tsize:8;\tsigned:0;\n\nprint fmt: \"x\"\n";
        let raw = declaration("openat", format);
        assert_eq!(&raw[..7], b"openat\0");
        assert_eq!((raw[NAME], SIZE), (3, 252));
        let parameter = |n: usize| &raw[NAME + 4 + n * PARAMETER..];
        assert!(parameter(0).starts_with(b"dfd\0"));
        assert!(parameter(1).starts_with(b"filename\0"));
        assert_eq!((parameter(0)[NAME], parameter(1)[NAME], parameter(2)[NAME]), (0, 1, 0));
    }

    #[test]
    fn names_are_no_paths() {
        let mut declarations = Declarations::default();
        assert!(declarations.of("openat").is_err());
        declarations.directory = Some(File::open("/").unwrap().into());
        for name in ["", "../x", "a/b", "a\0b"] {
            assert!(declarations.of(name).unwrap_err().contains("no name"));
        }
    }
}
