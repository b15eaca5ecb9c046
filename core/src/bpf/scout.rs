//! The scout (core/scout/scout.bpf.c): loading it, and one reading of its notices for all.
//!
//! Two kinds of readers share the ring. Streams must know of a namespace before they see its first
//! event: they look into the ring for each sample, which is one comparison while it is empty.
//! Python identifies the containers: its thread sleeps until there are notices.

use std::collections::{HashSet, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::map::{info, Map};
use super::object::Object;
use super::offsets;
use super::ring::{Peek, Ring};
use crate::errors::{Error, Kind, Result};
use crate::fds;

static ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/scout.bpf.o"));

/// Filter maps that are served at once: MAX_FILTERS of the object.
const MAX_FILTERS: u32 = 64;
/// Ring buffers of gadgets whose order with the notices is known: MAX_RINGS of the object.
pub const MAX_RINGS: usize = 16;
/// Notices that wait for Python; a thread that stands still must not cost memory.
const MAX_NOTICES: usize = 8192;
/// Changes that a stream may be behind before it only learns what is pending now.
const MAX_CHANGES: usize = 4096;
/// How often a writer that was interrupted is waited for.
const PATIENCE: usize = 64;
/// Bytes of `struct process_notice`; a longer record has positions and cgroup names behind it.
const HEAD: usize = 64;
const PATH: usize = HEAD + 8 * MAX_RINGS;
const COMM: std::ops::Range<usize> = 48..64;

const KIND_NEW: u32 = 1;
const FLAG_SHUT: u32 = 1;
const STATE_SETTLED: u32 = 2;
/// Value of a namespace in a filter map while it is pending.
const FILTER_PENDING: u32 = 2;

const RAW: [&str; 4] = ["scout_fork", "scout_exec", "scout_exit", "scout_attach"];
const BY_TRACEFS: &str = "scout_moved";
const SETNS: &str = "syscalls/sys_exit_setns";

/// What the kernel said about a namespace or a process in one that is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub mntns: u64,
    pub birth: u64,
    pub kind: u32,
    pub flags: u32,
    pub pid: u32,
    pub nspid: u32,
    pub ppid: u32,
    pub cgroup_id: u64,
    pub comm: Vec<u8>,
    /// Absolute; empty where the notice has none.
    pub cgroup: Vec<u8>,
}

/// A namespace that streams must know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub mntns: u64,
    pub birth: u64,
    /// False: nothing of it passes yet.
    pub open: bool,
    /// How far each gadget's ring was written before it.
    pub written: [u64; MAX_RINGS],
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub admitted: u64,
    pub missed: u64,
    pub shut: u64,
    pub full: u64,
    pub pending: u64,
    /// Notices dropped since Python did not take them.
    pub dropped: u64,
}

struct Reading {
    ring: Ring,
    notices: VecDeque<Notice>,
    changes: VecDeque<Change>,
    /// (number, birth) of those not settled.
    pending: HashSet<(u64, u64)>,
    settled: u64,
    dropped: u64,
}

struct Kernel {
    object: Object,
    namespaces: Map,
    old: Map,
    settled: Map,
    filters: Map,
    used: [bool; MAX_FILTERS as usize],
    rings: [bool; MAX_RINGS],
}

pub struct Scout {
    kernel: Mutex<Option<Kernel>>,
    reading: Mutex<Reading>,
    peek: Peek,
    /// Changes ever.
    version: AtomicU64,
    /// Readable when Python should call `notices`: the ring, or what a stream read in its place.
    epoll: OwnedFd,
    waker: OwnedFd,
}

fn parse(record: &[u8]) -> Option<Notice> {
    let u32_at = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
    let comm = record.get(COMM)?;
    let size = u32_at(36)? as usize;
    let names = record.get(PATH..PATH + size).unwrap_or_default();
    let mut cgroup = Vec::with_capacity(size + 1);
    for name in names.split(|b| *b == 0).rev().filter(|n| !n.is_empty()) {
        cgroup.push(b'/');
        cgroup.extend_from_slice(name);
    }
    Some(Notice {
        mntns: u64_at(0)?,
        birth: u64_at(8)?,
        kind: u32_at(16)?,
        flags: u32_at(20)?,
        pid: u32_at(24)?,
        nspid: u32_at(28)?,
        ppid: u32_at(32)?,
        cgroup_id: u64_at(40)?,
        comm: comm.split(|b| *b == 0).next().unwrap_or_default().to_vec(),
        cgroup,
    })
}

/// A namespace whose events wait for a decision.
fn was_let_in(notice: &Notice) -> bool {
    notice.kind == KIND_NEW && notice.flags & FLAG_SHUT == 0
}

/// Of a namespace that was let in the kernel does not tell again; as many as may be pending.
fn is_kept(notice: &Notice, waiting: usize) -> bool {
    waiting < MAX_NOTICES || was_let_in(notice)
}

fn written(record: &[u8]) -> [u64; MAX_RINGS] {
    std::array::from_fn(|i| {
        let at = HEAD + 8 * i;
        let word = record.get(at..at + 8).and_then(|w| w.try_into().ok());
        word.map_or(0, u64::from_ne_bytes)
    })
}

impl Reading {
    /// Takes what is in the ring; true when Python has something new.
    fn read(&mut self, version: &AtomicU64) -> Result<bool> {
        let Reading { ring, notices, changes, pending, settled, dropped } = self;
        let mut any = false;
        ring.drain(&mut |record| {
            let Some(notice) = parse(record) else { return true };
            any = true;
            if notice.kind == KIND_NEW {
                let (mntns, birth) = (notice.mntns, notice.birth);
                if !pending.insert((mntns, birth)) {
                    // Two processors saw it at once, or the kernel had forgotten it.
                    *settled += 1;
                }
                let open = was_let_in(&notice);
                changes.push_back(Change { mntns, birth, open, written: written(record) });
                if changes.len() > MAX_CHANGES {
                    changes.pop_front();
                }
                version.fetch_add(1, Ordering::Release);
            }
            if is_kept(&notice, notices.len()) {
                notices.push_back(notice);
            } else {
                *dropped += 1;
            }
            true
        })?;
        Ok(any)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scout {
    /// Loads the object; nothing is noticed before [`Scout::attach`]. `pidns`: the inode number
    /// of the pid namespace whose numbers Python knows, 0 for the first.
    pub fn load(pidns: u32, max_pending: u32) -> Result<Scout> {
        let offsets = offsets::of_running_kernel()?;
        let mut object = Object::open(ELF, "scout", None)?;
        let mut at = 0;
        for bytes in [&offsets[..], &pidns.to_ne_bytes(), &max_pending.to_ne_bytes()] {
            object.set_data(".rodata", at, bytes)?;
            at += bytes.len();
        }
        object.load()?;
        let ring = object.map_fd("notices")?;
        let size = info(ring.as_fd()).map_err(|e| Error::map(e.to_string()))?.max_entries as usize;
        let ring = Ring::open(ring, size)
            .map_err(|e| Error::of_map(&e, format!("cannot read the scout's ring: {e}")))?;
        let (epoll, waker) = (fds::epoll()?, fds::waker()?);
        fds::watch(&epoll, ring.epoll_fd())?;
        fds::watch(&epoll, waker.as_raw_fd())?;
        let kernel = Kernel {
            namespaces: object.map_by_name("namespaces")?,
            old: object.map_by_name("old")?,
            settled: object.map_by_name("settled")?,
            filters: object.map_by_name("filters")?,
            used: [false; MAX_FILTERS as usize],
            rings: [false; MAX_RINGS],
            object,
        };
        Ok(Scout {
            kernel: Mutex::new(Some(kernel)),
            peek: ring.peek(),
            reading: Mutex::new(Reading {
                ring,
                notices: VecDeque::new(),
                changes: VecDeque::new(),
                pending: HashSet::new(),
                settled: 0,
                dropped: 0,
            }),
            version: AtomicU64::new(0),
            epoll,
            waker,
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kernel) -> Result<T>) -> Result<T> {
        work(lock(&self.kernel).as_mut().ok_or_else(|| Error::closed("the scout"))?)
    }

    /// Namespaces that are there already: they are nobody's news.
    pub fn baseline(&self, mntns: &[u64]) -> Result<()> {
        self.with(|kernel| {
            mntns.iter().try_for_each(|n| kernel.old.update(&n.to_ne_bytes(), &[0; 8]))
        })
    }

    /// The programs on raw tracepoints, which need no tracefs.
    pub fn attach(&self) -> Result<()> {
        self.with(|kernel| RAW.iter().try_for_each(|name| kernel.object.attach(name)))
    }

    /// The exits of unshare() and setns(), whose tracepoints are found by tracefs.
    pub fn attach_by_tracefs(&self) -> Result<()> {
        self.with(|kernel| {
            kernel.object.attach(BY_TRACEFS)?;
            kernel.object.attach_also(BY_TRACEFS, SETNS)
        })
    }

    /// From now on new namespaces pass this gadget's filter while they are pending, and those
    /// that are pending already do. Returns the place for [`Scout::remove_filter`].
    pub fn add_filter(&self, filter: BorrowedFd<'_>) -> Result<u32> {
        let slot = self.with(|kernel| {
            let free = kernel.used.iter().position(|used| !used);
            let slot = free.ok_or_else(|| {
                Error::new(Kind::Map, format!("the scout serves {MAX_FILTERS} gadgets at most"))
            })?;
            let fd = filter.as_raw_fd().to_ne_bytes();
            kernel.filters.update(&(slot as u32).to_ne_bytes(), &fd)?;
            kernel.used[slot] = true;
            Ok(slot as u32)
        })?;
        let copy = filter
            .try_clone_to_owned()
            .map_err(|e| Error::map(format!("the filter map cannot be held: {e}")))?;
        let filter = Map::from_fd(copy)?;
        let mut reading = lock(&self.reading);
        self.read(&mut reading)?;
        for (mntns, _) in &reading.pending {
            // A map that is full takes whoever is identified once there is room.
            if filter.update(&mntns.to_ne_bytes(), &FILTER_PENDING.to_ne_bytes()).is_err() {
                break;
            }
        }
        Ok(slot)
    }

    pub fn remove_filter(&self, slot: u32) -> Result<()> {
        self.with(|kernel| {
            if let Some(used) = kernel.used.get_mut(slot as usize) {
                *used = false;
                kernel.filters.delete(&slot.to_ne_bytes())?;
            }
            Ok(())
        })
    }

    /// From now on notices say how far this ring was written before them. None: no slot is free.
    pub fn add_ring(&self, ring: OwnedFd) -> Option<usize> {
        self.with(|kernel| {
            let Some(slot) = kernel.rings.iter().position(|used| !used) else { return Ok(None) };
            kernel.rings[slot] = true;
            let rings = kernel.object.map_by_name("rings")?;
            // The kernel waits until nobody can still see the slot empty (RCU), some 10 ms. Until
            // then the notices say 0: what is read is taken for the latest namespace's.
            let work = move || {
                let value = ring.as_raw_fd().to_ne_bytes();
                let _ = rings.update(&(slot as u32).to_ne_bytes(), &value);
            };
            let _ = std::thread::Builder::new().name("ig-scout-ring".into()).spawn(work);
            Ok(Some(slot))
        })
        .unwrap_or(None)
    }

    pub fn remove_ring(&self, slot: usize) {
        let _ = self.with(|kernel| {
            kernel.object.map_by_name("rings")?.delete(&(slot as u32).to_ne_bytes())?;
            kernel.rings[slot] = false;
            Ok(())
        });
    }

    /// Takes a namespace that was decided about out of a filter, unless its number is that of a
    /// later one by now, which is pending there.
    pub fn withdraw(&self, filter: BorrowedFd<'_>, mntns: u64, birth: u64) -> Result<()> {
        let copy = filter
            .try_clone_to_owned()
            .map_err(|e| Error::map(format!("the filter map cannot be held: {e}")))?;
        let filter = Map::from_fd(copy)?;
        let key = mntns.to_ne_bytes();
        let reborn = |kernel: &mut Kernel| {
            let seen = kernel.namespaces.lookup(&key)?;
            Ok(seen.is_some_and(|s| s[..8] != birth.to_ne_bytes()))
        };
        if self.with(reborn)? {
            return Ok(());
        }
        filter.delete(&key)?;
        // The kernel may have let the next one in between the two.
        if self.with(reborn)? {
            filter.update(&key, &FILTER_PENDING.to_ne_bytes())?;
        }
        Ok(())
    }

    pub fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Reads the ring to its end, also past a record that is being written right now.
    fn read(&self, reading: &mut Reading) -> Result<()> {
        for _ in 0..PATIENCE {
            if reading.read(&self.version)? {
                fds::wake(&self.waker);
            }
            if !self.peek.waits() {
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// What came since the last call, in order.
    pub fn notices(&self) -> Result<Vec<Notice>> {
        let mut reading = lock(&self.reading);
        self.read(&mut reading)?;
        let mut count = 0u64;
        // SAFETY: an eventfd gives eight bytes, which `count` has; it never blocks.
        unsafe { libc::read(self.waker.as_raw_fd(), (&raw mut count).cast(), 8) };
        Ok(reading.notices.drain(..).collect())
    }

    /// A namespace is identified, or given up: it counts as pending no longer.
    pub fn settle(&self, mntns: u64, birth: u64) -> Result<()> {
        let done = {
            let mut reading = lock(&self.reading);
            if reading.pending.remove(&(mntns, birth)) {
                reading.settled += 1;
            }
            reading.settled
        };
        self.with(|kernel| {
            let key = mntns.to_ne_bytes();
            if let Some(seen) = kernel.namespaces.lookup(&key)? {
                if seen[..8] == birth.to_ne_bytes() {
                    let mut value = seen;
                    value[8..12].copy_from_slice(&STATE_SETTLED.to_ne_bytes());
                    kernel.namespaces.update(&key, &value)?;
                }
            }
            kernel.settled.update(&[0; 4], &done.to_ne_bytes())
        })
    }

    pub fn counts(&self) -> Result<Counts> {
        let words = self.with(|kernel| kernel.object.data(".bss", 0, 32))?;
        let word = |i: usize| words[8 * i..8 * i + 8].try_into().map_or(0, u64::from_ne_bytes);
        let mut reading = lock(&self.reading);
        self.read(&mut reading)?;
        Ok(Counts {
            admitted: word(0),
            missed: word(1),
            shut: word(2),
            full: word(3),
            pending: reading.pending.len() as u64,
            dropped: reading.dropped,
        })
    }

    /// Detaches and unloads; streams go on without.
    pub fn close(&self) {
        if let Some(mut kernel) = lock(&self.kernel).take() {
            kernel.object.close();
        }
    }

    /// Where a stream that begins now begins to follow.
    pub fn begin(&self) -> (u64, Vec<Change>) {
        let reading = lock(&self.reading);
        (self.version.load(Ordering::Acquire), now(&reading))
    }

    /// Is there anything that a stream at `cursor` does not know?
    #[inline]
    pub fn has_news(&self, cursor: u64) -> bool {
        self.peek.waits() || self.version.load(Ordering::Acquire) != cursor
    }

    /// Everything a stream at `cursor` does not know.
    pub fn news(&self, cursor: &mut u64) -> Result<Vec<Change>> {
        let mut reading = lock(&self.reading);
        self.read(&mut reading)?;
        let version = self.version.load(Ordering::Acquire);
        let behind = (version - *cursor) as usize;
        *cursor = version;
        Ok(match reading.changes.len().checked_sub(behind) {
            Some(known) => reading.changes.range(known..).copied().collect(),
            None => now(&reading),
        })
    }
}

fn now(reading: &Reading) -> Vec<Change> {
    let all = reading.pending.iter();
    let written = [0; MAX_RINGS];
    all.map(|(mntns, birth)| Change { mntns: *mntns, birth: *birth, open: true, written }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        raw.extend_from_slice(&4026532177u64.to_ne_bytes());
        raw.extend_from_slice(&9u64.to_ne_bytes());
        for word in [1u32, 0, 100, 1, 99, path.len() as u32] {
            raw.extend_from_slice(&word.to_ne_bytes());
        }
        raw.extend_from_slice(&77u64.to_ne_bytes());
        raw.extend_from_slice(b"runc:[1:CHILD]\0\0");
        for position in 0..MAX_RINGS as u64 {
            raw.extend_from_slice(&(8 * position).to_ne_bytes());
        }
        raw.extend_from_slice(path);
        raw
    }

    #[test]
    fn notices_are_read_whole() {
        let notice = parse(&record(b"abc\0docker\0")).unwrap();
        assert_eq!((notice.mntns, notice.birth, notice.pid, notice.ppid), (4026532177, 9, 100, 99));
        assert_eq!((notice.nspid, notice.cgroup_id), (1, 77));
        assert_eq!(notice.comm, b"runc:[1:CHILD]");
        assert_eq!(notice.cgroup, b"/docker/abc");
        assert_eq!(parse(&record(b"")).unwrap().cgroup, b"");
        assert_eq!(written(&record(b""))[3], 24);
    }

    #[test]
    fn a_namespace_that_was_let_in_always_finds_room() {
        let mut notice = parse(&record(b"")).unwrap();
        assert!(is_kept(&notice, MAX_NOTICES));
        notice.flags = FLAG_SHUT;
        assert!(is_kept(&notice, MAX_NOTICES - 1) && !is_kept(&notice, MAX_NOTICES));
        notice.flags = 0;
        notice.kind = KIND_NEW + 1;
        assert!(is_kept(&notice, MAX_NOTICES - 1) && !is_kept(&notice, MAX_NOTICES));
    }

    #[test]
    fn short_records_are_none() {
        let whole = record(b"");
        for size in 0..HEAD {
            assert_eq!(parse(&whole[..size]), None);
        }
        assert_eq!(written(&whole[..HEAD]), [0; MAX_RINGS]);
    }
}
