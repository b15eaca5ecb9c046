//! One process: its mappings, and the names of its addresses.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::allowance::Allowance;
use super::files::{FileId, Files};
use super::maps::{self, Mapping};
use super::perf_map::PerfMap;

const MAX_MAPS: u64 = 16 << 20;
const MAX_STATUS: u64 = 64 << 10;
/// Mappings and perf maps change. They are read again after this time at the earliest.
const FRESH: Duration = Duration::from_secs(1);
/// Of a name that is remembered, besides its text.
const NAME_SIZE: usize = 48;
/// Names that are remembered for a process.
const MAX_NAMES: usize = 1 << 14;

/// The process of a stack, as the event describes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct StackOwner {
    /// (pid, inode number of the pid namespace) at each known level; 0 for none.
    pub pids: [(u32, u64); 2],
    pub tgid: u32,
    pub base_addr_hash: u32,
    /// Device, inode and time of the executable; inode 0 when not known.
    pub major: u32,
    pub minor: u32,
    pub inode: u64,
    pub mtime: (u64, u32),
}

impl StackOwner {
    /// The pid in the pid namespace `pidns`; with 0 the pid in the outermost one.
    pub fn pid_in(&self, pidns: u64) -> Option<u32> {
        let known = |(pid, ns): &(u32, u64)| *pid != 0 && (pidns == 0 || *ns == pidns);
        self.pids.iter().find(|p| known(p)).map(|(pid, _)| *pid)
    }

    fn has_exe(&self, exe: &Path) -> bool {
        if self.inode == 0 {
            return true;
        }
        let Ok(about) = fs::metadata(exe) else { return false };
        let device = about.dev();
        (libc::major(device), libc::minor(device)) == (self.major, self.minor)
            && about.ino() == self.inode
            && (about.mtime() as u64, about.mtime_nsec() as u32) == self.mtime
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pid: u32,
    base_addr_hash: u32,
    inode: u64,
}

impl Key {
    pub fn of(owner: &StackOwner, pid: u32) -> Key {
        Key { pid, base_addr_hash: owner.base_addr_hash, inode: owner.inode }
    }
}

pub struct Process {
    pub used: Instant,
    directory: PathBuf,
    mappings: Vec<(Mapping, Option<FileId>)>,
    read: Instant,
    perf_map: Option<PerfMap>,
    names: std::collections::HashMap<u64, Box<[u8]>>,
    /// Bytes of `names`.
    names_size: usize,
    /// Whose reading it is: the pid namespace below that of all processes.
    spender: u64,
}

impl Process {
    /// None when the process has ended, or another process has its pid by now, or there is no time.
    pub fn open(
        proc_root: &Path,
        pid: u32,
        owner: &StackOwner,
        reading: &mut Allowance,
    ) -> Option<Process> {
        let directory = proc_root.join(pid.to_string());
        if !owner.has_exe(&directory.join("exe")) {
            return None;
        }
        let mut process = Process {
            used: Instant::now(),
            directory,
            mappings: Vec::new(),
            read: Instant::now(),
            perf_map: None,
            names: Default::default(),
            names_size: 0,
            spender: owner.pids[1].1,
        };
        process.read_maps(reading)?;
        // The pid may have been reused while /proc was read: it is compared again.
        owner.has_exe(&process.directory.join("exe")).then_some(process)
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        let mappings = self.mappings.capacity() * size_of::<(Mapping, Option<FileId>)>();
        mappings + self.perf_map.as_ref().map_or(0, PerfMap::size) + self.names_size
    }

    fn read_maps(&mut self, reading: &mut Allowance) -> Option<()> {
        let path = self.directory.join("maps");
        self.mappings = reading.spend(self.spender, || {
            let text = contents(&path, MAX_MAPS)?;
            Some(maps::parse(&text).into_iter().map(|m| (m, None)).collect())
        })??;
        self.read = Instant::now();
        self.perf_map = None;
        Some(())
    }

    pub fn stack(&mut self, files: &mut Files, addresses: &[u64], out: &mut Vec<u8>) {
        self.used = Instant::now();
        for (depth, address) in addresses.iter().enumerate() {
            // A return address may be the first byte of the next function.
            let inside = if depth == 0 { *address } else { address.saturating_sub(1) };
            self.name(files, inside, *address, out);
            out.extend_from_slice(b"; ");
        }
    }

    fn name(&mut self, files: &mut Files, inside: u64, shown: u64, out: &mut Vec<u8>) {
        if let Some(name) = self.names.get(&inside) {
            out.extend_from_slice(name);
            return;
        }
        let start = out.len();
        let mut found = self.look_up(files, inside, out);
        let old = self.read.elapsed() > FRESH;
        if !found && old && self.read_maps(&mut files.reading).is_some() {
            found = self.look_up(files, inside, out);
        }
        if !found {
            // Writing to a Vec does not fail.
            let _ = write!(out, "0x{shown:x}");
            return;
        }
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
            self.names_size = 0;
        }
        self.names_size += NAME_SIZE + out.len() - start;
        self.names.insert(inside, out[start..].into());
    }

    fn look_up(&mut self, files: &mut Files, address: u64, out: &mut Vec<u8>) -> bool {
        let after = self.mappings.partition_point(|(m, _)| m.start <= address);
        let Some((mapping, id)) = self.mappings[..after].last_mut() else { return false };
        if address >= mapping.end {
            return false;
        }
        if mapping.inode == 0 {
            if !files.sources.own {
                return false;
            }
            let directory = &self.directory;
            if self.perf_map.is_none() {
                self.perf_map =
                    files.reading.spend(self.spender, || perf_map(directory).unwrap_or_default());
            }
            let found = self.perf_map.as_ref().and_then(|map| map.find(address));
            let Some(name) = found else { return false };
            out.extend_from_slice(name);
            return true;
        }
        if id.is_none() {
            let Mapping { start, end, .. } = mapping;
            let link = self.directory.join(format!("map_files/{start:x}-{end:x}"));
            *id = files.open(&link.to_string_lossy(), self.spender);
        }
        let offset = address - mapping.start + mapping.offset;
        id.as_ref().is_some_and(|id| files.name(id, offset, out))
    }
}

/// The perf map of the process, below its root directory, with the pid in its own namespace.
fn perf_map(directory: &Path) -> Option<PerfMap> {
    let status = contents(&directory.join("status"), MAX_STATUS)?;
    let line = status.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"NSpid:"))?;
    let pid = std::str::from_utf8(line).ok()?.split_whitespace().last()?.parse().ok()?;
    let root = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(directory.join("root"))
        .ok()?;
    PerfMap::open(OwnedFd::from(root).as_fd(), pid)
}

fn contents(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
