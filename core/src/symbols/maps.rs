//! The mappings of a process (proc_pid_maps(5)).

const MAX_MAPPINGS: usize = 65_536;

/// Memory that may hold code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// The offset of `start` in the file.
    pub offset: u64,
    /// 0 when no file is mapped.
    pub inode: u64,
}

/// The executable mappings in a maps file, by address. Lines that cannot be parsed are skipped.
pub fn parse(text: &[u8]) -> Vec<Mapping> {
    let lines = text.split(|b| *b == b'\n').take(MAX_MAPPINGS);
    let mut found: Vec<Mapping> = lines.filter_map(line).collect();
    found.sort_by_key(|m| m.start);
    found
}

fn line(line: &[u8]) -> Option<Mapping> {
    let mut parts = line.split(|b| *b == b' ').filter(|p| !p.is_empty());
    let mut part = || parts.next().and_then(|p| std::str::from_utf8(p).ok());
    let (start, end) = part()?.split_once('-')?;
    let flags = part()?;
    let offset = hex(part()?)?;
    let _device = part()?;
    let inode = part()?.parse().ok()?;
    let (start, end) = (hex(start)?, hex(end)?);
    (flags.as_bytes().get(2) == Some(&b'x') && start < end).then_some(Mapping {
        start,
        end,
        offset,
        inode,
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus-daemon
35b1800000-35b1820000 r-xp 00003000 08:02 135522  /usr/lib64/a b (deleted)
7f00-7e00 r-xp 00000000 08:02 1 backwards
nonsense
7fff00000000-7fff00001000 r-xp 00000000 00:00 0
";

    #[test]
    fn only_executable_mappings_by_address() {
        let maps = parse(MAPS);
        assert_eq!(maps.len(), 3);
        assert_eq!(maps[0], Mapping { start: 0x400000, end: 0x452000, offset: 0, inode: 173521 });
        assert_eq!((maps[1].offset, maps[1].inode), (0x3000, 135522));
        assert_eq!((maps[2].end, maps[2].inode), (0x7fff00001000, 0));
    }
}
