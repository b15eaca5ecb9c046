//! How long the kernel's eBPF programs ran, and how much memory their maps take.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use libbpf_sys as sys;

use crate::errors::{Error, Kind, Result};
use crate::fds::owned;

/// The most programs that are read; each takes a few system calls.
const MAX_PROGRAMS: usize = 65536;
/// Maps of one program: the verifier's MAX_USED_MAPS.
const MAX_MAPS: usize = 64;

/// Run time and runs since the program was loaded, as far as counting was switched on then.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    pub id: u32,
    pub kind: u32,
    pub name: String,
    pub run_time_ns: u64,
    pub run_count: u64,
    pub maps: Vec<u32>,
}

/// The kernel counts as long as one of these is open.
pub struct Counting {
    _fd: OwnedFd,
}

impl Counting {
    /// `unsupported` before Linux 5.8.
    pub fn begin() -> Result<Counting> {
        // SAFETY: no pointers; a fresh descriptor.
        let fd = unsafe { owned(sys::bpf_enable_stats(sys::BPF_STATS_RUN_TIME)) };
        let fd = fd.map_err(|cause| {
            let kind = match cause.raw_os_error() {
                Some(libc::EPERM) => Kind::Load,
                _ => Kind::Unsupported,
            };
            let message = format!("the kernel does not count what programs take: {cause}");
            Error::new(kind, message)
        })?;
        Ok(Counting { _fd: fd })
    }
}

/// All programs by id, without those that are unloaded meanwhile.
pub fn programs() -> Result<Vec<Program>> {
    let mut found = Vec::new();
    let mut id = 0;
    while found.len() < MAX_PROGRAMS {
        // SAFETY: writes one id.
        if unsafe { sys::bpf_prog_get_next_id(id, &mut id) } != 0 {
            let cause = io::Error::last_os_error();
            if cause.raw_os_error() == Some(libc::ENOENT) {
                break;
            }
            return Err(Error::new(Kind::Load, format!("cannot list eBPF programs: {cause}")));
        }
        found.extend(program(id));
    }
    Ok(found)
}

/// None when the program is unloaded.
fn program(id: u32) -> Option<Program> {
    // SAFETY: no pointers; a fresh descriptor.
    let fd = unsafe { owned(sys::bpf_prog_get_fd_by_id(id)) }.ok()?;
    let mut maps = [0u32; MAX_MAPS];
    let mut info = sys::bpf_prog_info {
        nr_map_ids: MAX_MAPS as u32,
        map_ids: maps.as_mut_ptr() as u64,
        ..Default::default()
    };
    let mut size = size_of::<sys::bpf_prog_info>() as u32;
    // SAFETY: `info` is writable for `size` bytes, and has room for as many ids as it says.
    if unsafe { sys::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &mut info, &mut size) } != 0 {
        return None;
    }
    let name = info.name.map(|c| c as u8);
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    let count = (info.nr_map_ids as usize).min(MAX_MAPS);
    Some(Program {
        id,
        kind: info.type_,
        name: name.to_string_lossy().into_owned(),
        run_time_ns: info.run_time_ns,
        run_count: info.run_cnt,
        maps: maps[..count].to_vec(),
    })
}

/// Bytes of memory that the kernel accounts to a map; None when the map is freed.
pub fn map_memory(id: u32) -> Option<u64> {
    // SAFETY: no pointers; a fresh descriptor.
    let fd = unsafe { owned(sys::bpf_map_get_fd_by_id(id)) }.ok()?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    memlock(&text)
}

fn memlock(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_fdinfo_says() {
        assert_eq!(
            memlock("pos:\t0\nmap_type:\t1\nmemlock:\t1091632\nmap_id:\t7\n"),
            Some(1091632)
        );
        assert_eq!(memlock("pos:\t0\n"), None);
        assert_eq!(memlock("memlock:\tmuch\n"), None);
    }
}
