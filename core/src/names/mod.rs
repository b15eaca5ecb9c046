//! Names of the kernel's numbers: errors, signals, protocols, system calls.

mod syscalls;
mod tables;

fn from_table(table: &[&'static str], n: u64) -> Option<&'static str> {
    table.get(usize::try_from(n).ok()?).copied().filter(|name| !name.is_empty())
}

/// The name of 0 is empty.
pub fn errno(n: u64) -> Option<&'static str> {
    if n == 0 {
        return Some("");
    }
    from_table(&tables::ERRNO, n)
}

pub fn signal(n: u64) -> Option<&'static str> {
    from_table(&tables::SIGNAL, n)
}

pub fn protocol(n: u64) -> Option<&'static str> {
    match n {
        253 | 254 => Some("experimentation"),
        255 => Some("reserved"),
        _ => from_table(&tables::PROTOCOL, n),
    }
}

/// `SYS_READ`, or `SYS_UNKNOWN`.
pub fn syscall(n: u64) -> &'static str {
    let key = u16::try_from(n).unwrap_or(u16::MAX);
    match syscalls::SYSCALLS.binary_search_by_key(&key, |(number, _)| *number) {
        Ok(index) => syscalls::SYSCALLS[index].1,
        Err(_) => "SYS_UNKNOWN",
    }
}

/// `openat` and the like: the name of a system call without the prefix, in lower case.
pub fn syscall_name(n: u16) -> Option<String> {
    let index = syscalls::SYSCALLS.binary_search_by_key(&n, |(number, _)| *number).ok()?;
    Some(bare(syscalls::SYSCALLS[index].1))
}

/// The number of the system call of this name.
pub fn syscall_number(name: &str) -> Option<u16> {
    syscalls::SYSCALLS.iter().find(|(_, known)| bare(known) == name).map(|(number, _)| *number)
}

fn bare(name: &str) -> String {
    name.trim_start_matches("SYS_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_hold() {
        assert_eq!(errno(0), Some(""));
        for (n, name) in
            [(2, "ENOENT"), (11, "EAGAIN"), (35, "EDEADLK"), (95, "ENOTSUP"), (117, "EFSCORRUPTED")]
        {
            assert_eq!(errno(n), Some(name));
        }
        assert_eq!((errno(41), errno(58), errno(134), errno(u64::MAX)), (None, None, None, None));
        assert_eq!((signal(0), signal(29), signal(99)), (None, Some("SIGIO"), None));
        assert_eq!(
            (protocol(6), protocol(250), protocol(255)),
            (Some("TCP"), None, Some("reserved"))
        );
    }

    #[test]
    fn syscalls_are_sorted_and_found() {
        assert!(syscalls::SYSCALLS.windows(2).all(|w| w[0].0 < w[1].0));
        let openat = if cfg!(target_arch = "aarch64") { 56 } else { 257 };
        assert_eq!(syscall(openat), "SYS_OPENAT");
        assert_eq!(syscall_name(openat as u16).as_deref(), Some("openat"));
        assert_eq!(syscall_number("openat"), Some(openat as u16));
        assert_eq!((syscall_name(9999), syscall_number("nothing")), (None, None));
        assert_eq!((syscall(9999), syscall(u64::MAX)), ("SYS_UNKNOWN", "SYS_UNKNOWN"));
    }
}
