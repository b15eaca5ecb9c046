//! File modes and open flags.

/// Open flags by value, in the order they are printed (x86 octal values).
const FLAGS: [(u32, &str); 14] = [
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o10000, "O_DSYNC"),
    (0o20000, "O_FASYNC"),
    (0o40000, "O_DIRECT"),
    (0o100000, "O_LARGEFILE"),
    (0o200000, "O_DIRECTORY"),
    (0o400000, "O_NOFOLLOW"),
    (0o1000000, "O_NOATIME"),
    (0o2000000, "O_CLOEXEC"),
];

/// Letters of the high bits of a Go file mode, from bit 31 down.
const HIGH_BITS: &[u8; 13] = b"dalTLDpSugct?";

/// Prints the number as a Go file mode, as `ig` does: the file type bits of Unix have no meaning
/// there.
pub fn mode(mode: u32, out: &mut Vec<u8>) {
    let start = out.len();
    for (i, letter) in HIGH_BITS.iter().enumerate() {
        if mode & (1 << (31 - i)) != 0 {
            out.push(*letter);
        }
    }
    if out.len() == start {
        out.push(b'-');
    }
    for (i, letter) in b"rwxrwxrwx".iter().enumerate() {
        out.push(if mode & (1 << (8 - i)) != 0 { *letter } else { b'-' });
    }
}

/// Access mode, then every known flag, joined by `|`.
pub fn flags(flags: u32, out: &mut Vec<u8>) {
    let start = out.len();
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", ""][(flags & 3) as usize];
    out.extend_from_slice(access.as_bytes());
    for (bit, name) in FLAGS {
        if flags & bit != 0 {
            if out.len() > start {
                out.push(b'|');
            }
            out.extend_from_slice(name.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    fn text(f: fn(u32, &mut Vec<u8>), n: u32) -> String {
        let mut out = Vec::new();
        f(n, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn modes() {
        assert_eq!(text(super::mode, 0), "----------");
        assert_eq!(text(super::mode, 33188), "-rw-r--r--");
        assert_eq!(text(super::mode, 0o777), "-rwxrwxrwx");
        assert_eq!(text(super::mode, 1 << 31 | 0o700), "drwx------");
    }

    #[test]
    fn open_flags() {
        assert_eq!(text(super::flags, 0), "O_RDONLY");
        assert_eq!(text(super::flags, 525_377), "O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC");
        assert_eq!(text(super::flags, 3), "");
        assert_eq!(text(super::flags, 0o103), "O_CREAT");
    }
}
