//! Empties a hash map: with many entries per system call where the kernel can do that, else one by
//! one.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libbpf_sys as sys;

use super::map::info;
use crate::errors::{Error, Result};

/// Bytes of keys and values that one system call should return.
const BATCH_BYTES: usize = 256 << 10;
const MIN_BATCH: u32 = 16;
const MAX_BATCH: u32 = 4096;
/// A batch grows to this when one bucket of the map holds more entries than fit.
const MAX_BATCH_BYTES: usize = 64 << 20;
/// The kernel's error for operations that a map type does not have; libc does not define it.
const ENOTSUPP: i32 = 524;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Batches,
    /// Each entry is read and deleted in one step.
    Entries,
    /// Each entry is read, then deleted: updates in between are lost.
    TwoSteps,
}

/// libbpf's call of one of the kernel's batch operations.
type Batched = unsafe extern "C" fn(
    c_int,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut u32,
    *const sys::bpf_map_batch_opts,
) -> c_int;

/// Gets each entry, key and value one behind the other.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Says whether an entry is to be taken.
pub type Wanted<'a> = dyn FnMut(&[u8]) -> bool + 'a;

/// Takes the entries out of a map.
pub struct Drain {
    fd: OwnedFd,
    id: u32,
    key_size: usize,
    value_size: usize,
    max_entries: usize,
    batch: u32,
    method: Method,
}

impl Drain {
    /// `entry` is the size of key and value together; without `batches`, entries are taken one by
    /// one.
    pub fn open(fd: OwnedFd, name: &str, entry: usize, batches: bool) -> Result<Drain> {
        let info = info(fd.as_fd())
            .map_err(|e| Error::map(format!("the kernel does not describe map {name}: {e}")))?;
        if info.map_type != sys::BPF_MAP_TYPE_HASH && info.map_type != sys::BPF_MAP_TYPE_LRU_HASH {
            return Err(Error::map(format!(
                "map {name} is of type {}: only hash maps can be emptied",
                info.map_type
            )));
        }
        let (key_size, value_size) = (info.key_size as usize, info.value_size as usize);
        if key_size + value_size != entry {
            return Err(Error::map(format!(
                "an entry of map {name} has {key_size} + {value_size} bytes, expected {entry}"
            )));
        }
        let batch = (BATCH_BYTES / entry.max(1)).clamp(MIN_BATCH as usize, MAX_BATCH as usize);
        Ok(Drain {
            fd,
            id: info.id,
            key_size,
            value_size,
            max_entries: info.max_entries as usize,
            batch: (batch as u32).min(info.max_entries.max(1)),
            method: if batches { Method::Batches } else { Method::Entries },
        })
    }

    fn failed(&self, cause: &io::Error) -> Error {
        Error::map(format!("cannot empty map {}: {cause}", self.id))
    }

    /// Passes each entry to `sink`, key and value one behind the other. After a failure the
    /// remaining entries stay in the map.
    pub fn drain(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        if self.method == Method::Batches
            && self.batches(sys::bpf_map_lookup_and_delete_batch, sink)?
        {
            return Ok(());
        }
        self.entries(None, sink)
    }

    /// As [`Drain::drain`], of the entries that are `wanted`; the others stay in the map.
    pub fn take_some(&mut self, wanted: &mut Wanted<'_>, sink: &mut Sink<'_>) -> Result<()> {
        let mut keys = Vec::new();
        let size = self.key_size;
        let mut note = |entry: &[u8]| {
            if wanted(entry) {
                keys.extend_from_slice(&entry[..size]);
            }
            Ok(())
        };
        if self.method != Method::Batches || !self.batches(sys::bpf_map_lookup_batch, &mut note)? {
            return self.entries(Some(wanted), sink);
        }
        let mut entry = vec![0u8; self.key_size + self.value_size];
        for key in keys.chunks_exact(size.max(1)) {
            entry[..size].copy_from_slice(key);
            let (key, value) = entry.split_at_mut(size);
            if self.take(key, value)? {
                sink(&entry)?;
            }
        }
        Ok(())
    }

    /// False when this kernel has no batch operations for this map.
    fn batches(&mut self, operation: Batched, sink: &mut Sink<'_>) -> Result<bool> {
        let (key_size, value_size) = (self.key_size, self.value_size);
        // The kernel's position in the map: 4 bytes for a hash map, a key for others.
        let mut place = vec![0u8; key_size.max(8)];
        let mut started = false;
        let mut keys = vec![0u8; key_size * self.batch as usize];
        let mut values = vec![0u8; value_size * self.batch as usize];
        let mut entry = Vec::with_capacity(key_size + value_size);
        loop {
            let mut count = self.batch;
            let from = if started { place.as_mut_ptr().cast() } else { std::ptr::null_mut() };
            // SAFETY: keys and values have room for `count` entries, `place` for the kernel's
            // place, which it reads before it writes.
            let rc = unsafe {
                operation(
                    self.fd.as_raw_fd(),
                    from,
                    place.as_mut_ptr().cast(),
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &mut count,
                    std::ptr::null(),
                )
            };
            let cause = (rc != 0).then(io::Error::last_os_error);
            let errno = cause.as_ref().and_then(io::Error::raw_os_error);
            match errno {
                None | Some(libc::ENOENT) => {}
                Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP) if !started => {
                    self.method = Method::Entries;
                    return Ok(false);
                }
                Some(libc::ENOSPC) => {
                    let entries = self.batch.saturating_mul(2);
                    if (key_size + value_size) * entries as usize > MAX_BATCH_BYTES {
                        let cause = io::Error::from_raw_os_error(libc::ENOSPC);
                        return Err(self.failed(&cause));
                    }
                    self.batch = entries;
                    keys.resize(key_size * entries as usize, 0);
                    values.resize(value_size * entries as usize, 0);
                    continue;
                }
                Some(libc::EINTR) => continue,
                Some(_) => return Err(self.failed(&cause.unwrap_or_else(io::Error::last_os_error))),
            }
            for i in 0..count.min(self.batch) as usize {
                entry.clear();
                entry.extend_from_slice(&keys[i * key_size..(i + 1) * key_size]);
                entry.extend_from_slice(&values[i * value_size..(i + 1) * value_size]);
                sink(&entry)?;
            }
            if errno.is_some() {
                return Ok(true);
            }
            started = true;
        }
    }

    /// Takes at most as many entries as the map can have: programs may add entries meanwhile.
    /// `wanted` None: all of them.
    fn entries(&mut self, mut wanted: Option<&mut Wanted<'_>>, sink: &mut Sink<'_>) -> Result<()> {
        let mut entry = vec![0u8; self.key_size + self.value_size];
        let mut next = vec![0u8; self.key_size];
        let mut more = self.next_key(None, &mut next)?;
        for _ in 0..self.max_entries {
            if !more {
                break;
            }
            entry[..self.key_size].copy_from_slice(&next);
            // The next key is asked for before this entry is deleted: after a key that it does not
            // find, the kernel begins at the start, where it would find the entries that a program
            // adds because of this walk.
            more = self.next_key(Some(&entry[..self.key_size]), &mut next)?;
            if let Some(wanted) = &mut wanted {
                let (key, value) = entry.split_at_mut(self.key_size);
                if !self.look(key, value)? || !wanted(&entry) {
                    continue;
                }
            }
            let (key, value) = entry.split_at_mut(self.key_size);
            if self.take(key, value)? {
                sink(&entry)?;
            }
        }
        Ok(())
    }

    /// False after the last key.
    fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> Result<bool> {
        let after = after.map_or(std::ptr::null(), |k| k.as_ptr());
        // SAFETY: both have the size of a key; null asks for the first one.
        let rc = unsafe {
            sys::bpf_map_get_next_key(self.fd.as_raw_fd(), after.cast(), next.as_mut_ptr().cast())
        };
        self.found(rc)
    }

    /// What a call on the map has found, from what it returned just now; false when there is no
    /// such entry.
    fn found(&self, rc: i32) -> Result<bool> {
        if rc == 0 {
            return Ok(true);
        }
        let cause = io::Error::last_os_error();
        match cause.raw_os_error() {
            Some(libc::ENOENT) => Ok(false),
            _ => Err(self.failed(&cause)),
        }
    }

    /// Copies the value of an entry, which stays; false when there is none.
    fn look(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        // SAFETY: key and value have the map's sizes.
        let rc = unsafe {
            sys::bpf_map_lookup_elem(
                self.fd.as_raw_fd(),
                key.as_ptr().cast(),
                value.as_mut_ptr().cast(),
            )
        };
        self.found(rc)
    }

    /// False when the entry has been deleted meanwhile.
    fn take(&mut self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        if self.method != Method::TwoSteps {
            // SAFETY: key and value have the map's sizes.
            let rc = unsafe {
                sys::bpf_map_lookup_and_delete_elem(
                    self.fd.as_raw_fd(),
                    key.as_ptr().cast(),
                    value.as_mut_ptr().cast(),
                )
            };
            if rc == 0 {
                return Ok(true);
            }
            let cause = io::Error::last_os_error();
            match cause.raw_os_error() {
                Some(libc::ENOENT) => return Ok(false),
                Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP) => self.method = Method::TwoSteps,
                _ => return Err(self.failed(&cause)),
            }
        }
        if !self.look(key, value)? {
            return Ok(false);
        }
        // SAFETY: as above.
        let rc = unsafe { sys::bpf_map_delete_elem(self.fd.as_raw_fd(), key.as_ptr().cast()) };
        // Deleted by another meanwhile: its value is here all the same.
        self.found(rc).map(|_| true)
    }
}
