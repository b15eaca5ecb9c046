//! The scout (core/scout/scout.bpf.c) reports new mount namespaces and what processes in pending
//! ones do. It is loaded here, and its ring buffer is read once for all readers.
//!
//! There are two kinds of readers. Streams must know of a namespace before they see its first
//! event: for each sample they look whether the ring buffer is empty, which is one comparison.
//! Python identifies the containers: its thread sleeps until there are notices.

mod notice;
mod reading;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::epoll::Epoll;
use nix::sys::eventfd::EventFd;

use super::map::{info, Map};
use super::object::Object;
use super::offsets;
use super::ring::{Peek, Ring};
use crate::errors::{Error, Kind, Result};
use crate::fds;

pub use notice::{ScoutNotice, Written, MAX_RINGS};
pub use reading::Change;
use reading::Reading;

static ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/scout.bpf.o"));

/// Filter maps that are served at once: MAX_FILTERS of the object.
const MAX_FILTERS: u32 = 64;
/// Readings for which a record that a CPU has begun to write is waited for.
const PATIENCE: usize = 64;

const STATE_SETTLED: u32 = 2;
/// The value of a namespace in a filter map while it is pending.
const FILTER_PENDING: u32 = 2;

const RAW: [&str; 4] = ["scout_fork", "scout_exec", "scout_exit", "scout_attach"];
const BY_TRACEFS: &str = "scout_moved";
const SETNS: &str = "syscalls/sys_exit_setns";

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub admitted: u64,
    /// Of root's namespaces, and of those of users; the next two as well.
    pub missed: [u64; 2],
    pub shut: [u64; 2],
    pub full: u64,
    pub pending: u64,
    /// Notices that were dropped because Python did not take them.
    pub dropped: [u64; 2],
}

struct Kernel {
    object: Object,
    /// Root's, and those of users.
    namespaces: [Map; 2],
    old: Map,
    settled: Map,
    filters: Map,
    used: [bool; MAX_FILTERS as usize],
    rings: [bool; MAX_RINGS],
}

pub struct Scout {
    /// None once closed.
    kernel: Mutex<Option<Kernel>>,
    reading: Mutex<Reading>,
    peek: Peek,
    /// The number of changes, ever.
    version: AtomicU64,
    /// Readable when Python should call `notices`: the ring buffer is not empty, or a stream has
    /// read it and woke `waker`.
    epoll: Epoll,
    waker: EventFd,
}

/// The generation of a `struct seen`.
fn generation_of(seen: &[u8]) -> u64 {
    seen.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scout {
    /// Loads the object; it reports nothing before [`Scout::attach`]. Pids are those of the pid
    /// namespace with inode number `pidns`; 0 is the initial one.
    pub fn load(pidns: u32, max_pending: [u32; 2]) -> Result<Scout> {
        let offsets = offsets::of_running_kernel()?;
        let mut object = Object::open(ELF, "scout", None)?;
        let mut at = 0;
        let [root, users] = max_pending.map(u32::to_ne_bytes);
        for bytes in [&offsets[..], &pidns.to_ne_bytes(), &root, &users] {
            object.set_data(".rodata", at, bytes)?;
            at += bytes.len();
        }
        object.load(false)?;
        let ring = object.map_fd("notices")?;
        let size = info(ring.as_fd()).map_err(|e| Error::map(e.to_string()))?.max_entries as usize;
        let ring = Ring::open(ring, size)
            .map_err(|e| Error::of_map(&e, format!("cannot read the scout's ring: {e}")))?;
        let (epoll, waker) = (fds::epoll()?, fds::waker()?);
        fds::watch(&epoll, ring.epoll_fd())?;
        fds::watch(&epoll, waker.as_fd())?;
        let kernel = Kernel {
            namespaces: [object.map_by_name("namespaces")?, object.map_by_name("user_namespaces")?],
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
            reading: Mutex::new(Reading::of(ring)),
            version: AtomicU64::new(0),
            epoll,
            waker,
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kernel) -> Result<T>) -> Result<T> {
        work(lock(&self.kernel).as_mut().ok_or_else(|| Error::closed("the scout"))?)
    }

    /// Namespaces that exist already: they are not reported.
    pub fn baseline(&self, mntns: &[u64]) -> Result<()> {
        self.with(|kernel| {
            mntns.iter().try_for_each(|n| kernel.old.update(&n.to_ne_bytes(), &[0; 8]))
        })
    }

    /// Of these namespaces, none had a process when the programs were attached: their numbers are
    /// those of later namespaces from now on.
    pub fn baseline_ended(&self, mntns: &[u64]) -> Result<()> {
        self.with(|kernel| {
            mntns.iter().try_for_each(|n| kernel.old.delete(&n.to_ne_bytes()).map(|_| ()))
        })
    }

    /// Attaches the programs on raw tracepoints, which need no tracefs.
    pub fn attach(&self) -> Result<()> {
        self.with(|kernel| RAW.iter().try_for_each(|name| kernel.object.attach(name)))
    }

    /// Attaches to the exits of unshare() and setns(), whose tracepoints are found by tracefs.
    pub fn attach_by_tracefs(&self) -> Result<()> {
        self.with(|kernel| {
            kernel.object.attach(BY_TRACEFS)?;
            kernel.object.attach_also(BY_TRACEFS, SETNS)
        })
    }

    /// From now on this gadget's filter lets pending namespaces through, also those that are
    /// pending already. Returns the slot for [`Scout::remove_filter`].
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
        for (mntns, _) in reading.pending.keys() {
            // Where the map is full, a namespace is added later, when it has been identified.
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

    /// From now on notices tell up to where this ring buffer was written before them. None: no slot
    /// is free.
    pub fn add_ring(&self, ring: OwnedFd) -> Option<usize> {
        self.with(|kernel| {
            let Some(slot) = kernel.rings.iter().position(|used| !used) else { return Ok(None) };
            kernel.rings[slot] = true;
            let rings = kernel.object.map_by_name("rings")?;
            // The update waits for an RCU grace period, some 10 ms. Until then notices have
            // position 0, and a sample counts for the latest generation.
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

    /// Deletes a namespace that has been decided about from a filter map. When a later generation
    /// has its inode number by now, the entry stays: it is the later one's.
    pub fn withdraw(&self, filter: BorrowedFd<'_>, mntns: u64, generation: u64) -> Result<()> {
        let copy = filter
            .try_clone_to_owned()
            .map_err(|e| Error::map(format!("the filter map cannot be held: {e}")))?;
        let filter = Map::from_fd(copy)?;
        if self.is_superseded(mntns, generation)? {
            return Ok(());
        }
        let key = mntns.to_ne_bytes();
        filter.delete(&key)?;
        // The scout may have let the next generation in between the look and the deletion.
        if self.is_superseded(mntns, generation)? {
            filter.update(&key, &FILTER_PENDING.to_ne_bytes())?;
        }
        Ok(())
    }

    /// True when a later generation has the inode number of a namespace by now, whether or not its
    /// notice has been read.
    pub fn is_superseded(&self, mntns: u64, generation: u64) -> Result<bool> {
        self.with(|kernel| {
            for namespaces in &kernel.namespaces {
                let seen = namespaces.lookup(&mntns.to_ne_bytes())?;
                if seen.is_some_and(|s| generation_of(&s) != generation) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    pub fn fd(&self) -> RawFd {
        self.epoll.0.as_raw_fd()
    }

    /// Reads the ring buffer to its end, also past a record that is being written right now.
    fn read(&self, reading: &mut Reading) -> Result<()> {
        for _ in 0..PATIENCE {
            let version = &self.version;
            let mut changed = || {
                version.fetch_add(1, Ordering::Release);
            };
            if reading.read(&mut changed)? {
                fds::wake(&self.waker);
            }
            if !self.peek.waits() {
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The notices since the last call; never waits. Those of root's namespaces are in order and
    /// come first, then some of those of users: more of them come with the next calls.
    pub fn notices(&self) -> Result<Vec<ScoutNotice>> {
        let mut reading = lock(&self.reading);
        self.read(&mut reading)?;
        // It is non-blocking, and fails when no stream has woken it.
        let _ = self.waker.read();
        let (found, more) = reading.take_notices();
        if more {
            fds::wake(&self.waker);
        }
        Ok(found)
    }

    /// A namespace has been decided about, and is not pending any more.
    pub fn settle(&self, mntns: u64, generation: u64) -> Result<()> {
        let settled = lock(&self.reading).settle(mntns, generation);
        self.with(|kernel| {
            let key = mntns.to_ne_bytes();
            for (quota, namespaces) in kernel.namespaces.iter().enumerate() {
                if let Some(mut seen) = namespaces.lookup(&key)? {
                    if generation_of(&seen) == generation {
                        seen[8..12].copy_from_slice(&STATE_SETTLED.to_ne_bytes());
                        namespaces.update(&key, &seen)?;
                    }
                }
                kernel
                    .settled
                    .update(&(quota as u32).to_ne_bytes(), &settled[quota].to_ne_bytes())?;
            }
            Ok(())
        })
    }

    pub fn counts(&self) -> Result<Counts> {
        let words = self.with(|kernel| kernel.object.data(".bss", 0, 56))?;
        let word = |i: usize| words[8 * i..8 * i + 8].try_into().map_or(0, u64::from_ne_bytes);
        let mut reading = lock(&self.reading);
        self.read(&mut reading)?;
        Ok(Counts {
            admitted: word(0) + word(1),
            missed: [word(2), word(3)],
            shut: [word(4), word(5)],
            full: word(6),
            pending: reading.pending.len() as u64,
            dropped: reading.dropped,
        })
    }

    /// Detaches and unloads the object; streams go on without it.
    pub fn close(&self) {
        if let Some(mut kernel) = lock(&self.kernel).take() {
            kernel.object.close();
        }
    }

    /// The first cursor of a stream, and the namespaces that are pending then.
    pub fn begin(&self) -> (u64, Vec<Change>) {
        let reading = lock(&self.reading);
        (self.version.load(Ordering::Acquire), reading.now())
    }

    /// True when there are changes that a stream at `cursor` does not know.
    #[inline]
    pub fn has_news(&self, cursor: u64) -> bool {
        self.peek.waits() || self.version.load(Ordering::Acquire) != cursor
    }

    /// The changes that a stream at `cursor` does not know, and moves the cursor.
    pub fn news(&self, cursor: &mut u64) -> Result<Vec<Change>> {
        let mut reading = lock(&self.reading);
        self.read(&mut reading)?;
        let version = self.version.load(Ordering::Acquire);
        let behind = (version - *cursor) as usize;
        *cursor = version;
        Ok(reading.changes(behind))
    }
}
