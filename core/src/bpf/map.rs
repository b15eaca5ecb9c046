//! Maps by descriptor: maps of this process, and the counters in maps of objects.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libbpf_sys as sys;

use crate::errors::{Error, Result};
use crate::fds::owned;

/// Keys and most values are small; a data section may be larger.
const MAX_VALUE: usize = 64 << 20;
/// BPF_OBJ_NAME_LEN without its NUL.
const NAME_LENGTH: usize = 15;

/// The kernel's description of a map.
pub struct MapInfo {
    pub id: u32,
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
}

pub fn info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut raw = sys::bpf_map_info::default();
    let mut size = size_of::<sys::bpf_map_info>() as u32;
    // SAFETY: `raw` is writable for `size` bytes and fd is open.
    let rc = unsafe { sys::bpf_map_get_info_by_fd(fd.as_raw_fd(), &mut raw, &mut size) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(MapInfo {
        id: raw.id,
        map_type: raw.type_,
        key_size: raw.key_size,
        value_size: raw.value_size,
        max_entries: raw.max_entries,
        flags: raw.map_flags,
    })
}

fn is_per_cpu(map_type: u32) -> bool {
    matches!(
        map_type,
        sys::BPF_MAP_TYPE_PERCPU_ARRAY
            | sys::BPF_MAP_TYPE_PERCPU_HASH
            | sys::BPF_MAP_TYPE_LRU_PERCPU_HASH
            | sys::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE
    )
}

/// Kernel names allow letters, digits, `_` and `.`, at most 15 of them.
pub fn kernel_name(name: &str) -> String {
    name.chars()
        .take(NAME_LENGTH)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' })
        .collect()
}

/// The descriptor of a new map.
pub fn create(
    name: &str,
    map_type: u32,
    key: u32,
    value: u32,
    entries: u32,
) -> io::Result<OwnedFd> {
    let c_name = CString::new(kernel_name(name)).unwrap_or_default();
    // SAFETY: the name outlives the call; null options mean defaults; a fresh descriptor.
    unsafe {
        let options = std::ptr::null();
        owned(sys::bpf_map_create(map_type, c_name.as_ptr(), key, value, entries, options))
    }
}

/// An open map, with the sizes that system calls use.
pub struct Map {
    fd: OwnedFd,
    key_size: usize,
    /// Bytes of one value as the syscall copies it (all CPUs for per-CPU maps).
    value_size: usize,
    map_type: u32,
    id: u32,
}

impl Map {
    pub fn create(name: &str, map_type: u32, key: u32, value: u32, entries: u32) -> Result<Map> {
        let fd = create(name, map_type, key, value, entries).map_err(|cause| {
            let message = format!(
                "cannot create map {name} (type {map_type}, key {key} bytes, value {value} bytes, \
                 {entries} entries): {cause}"
            );
            Error::of_map(&cause, message)
        })?;
        Map::from_fd(fd)
    }

    pub fn from_fd(fd: OwnedFd) -> Result<Map> {
        let info = info(fd.as_fd())
            .map_err(|e| Error::map(format!("the kernel does not describe the map: {e}")))?;
        let mut value_size = info.value_size as usize;
        if is_per_cpu(info.map_type) {
            // SAFETY: no arguments; negative means failure.
            let cpus = unsafe { sys::libbpf_num_possible_cpus() };
            let cpus = usize::try_from(cpus)
                .map_err(|_| Error::map("the number of possible CPUs is unknown"))?;
            value_size = value_size.next_multiple_of(8) * cpus;
        }
        if value_size > MAX_VALUE {
            return Err(Error::map(format!("a value of {value_size} bytes is not readable")));
        }
        let (key_size, map_type) = (info.key_size as usize, info.map_type);
        Ok(Map { fd, key_size, value_size, map_type, id: info.id })
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn check(&self, what: &str, given: usize, wanted: usize) -> Result<()> {
        if given == wanted {
            return Ok(());
        }
        Err(Error::map(format!("{what} has {given} bytes, map {} takes {wanted}", self.id)))
    }

    /// An error unless the map is a data section that has these bytes.
    pub fn check_range(&self, offset: usize, size: usize) -> Result<()> {
        if self.key_size == 4 && offset.checked_add(size).is_some_and(|end| end <= self.value_size)
        {
            return Ok(());
        }
        Err(Error::map(format!(
            "offset {offset} is outside the {} bytes of the data section",
            self.value_size
        )))
    }

    pub fn update(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.update_with(key, value, sys::BPF_ANY.into())
    }

    /// As [`Map::update`], with flags of bpf(2).
    pub fn update_with(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.check("the key", key.len(), self.key_size)?;
        self.check("the value", value.len(), self.value_size)?;
        // SAFETY: key and value have the sizes the kernel reads, checked above.
        let rc = unsafe {
            let (key, value) = (key.as_ptr().cast(), value.as_ptr().cast());
            sys::bpf_map_update_elem(self.raw(), key, value, flags)
        };
        self.result(rc, "write to")
    }

    /// The map whose id is a value of this map of maps.
    pub fn inner(&self, id: u32) -> Result<Map> {
        // SAFETY: a plain call that returns a fresh descriptor.
        let fd = unsafe { owned(sys::bpf_map_get_fd_by_id(id)) };
        let fd = fd.map_err(|e| Error::map(format!("cannot open map {id}: {e}")))?;
        Map::from_fd(fd)
    }

    pub fn map_type(&self) -> u32 {
        self.map_type
    }

    pub fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes of one value as the kernel copies it.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// False when the key was absent.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        self.check("the key", key.len(), self.key_size)?;
        // SAFETY: key has the size the kernel reads.
        let rc = unsafe { sys::bpf_map_delete_elem(self.raw(), key.as_ptr().cast()) };
        if rc != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT) {
            return Ok(false);
        }
        self.result(rc, "delete from").map(|()| true)
    }

    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check("the key", key.len(), self.key_size)?;
        let mut value = vec![0; self.value_size];
        // SAFETY: the kernel writes value_size bytes, which `value` has.
        let rc = unsafe {
            sys::bpf_map_lookup_elem(self.raw(), key.as_ptr().cast(), value.as_mut_ptr().cast())
        };
        if rc != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT) {
            return Ok(None);
        }
        self.result(rc, "read").map(|()| Some(value))
    }

    /// The keys in the map. The walk may be incomplete while other writers change the map, but it
    /// ends.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>> {
        let limit = info(self.fd.as_fd()).map_or(0, |i| i.max_entries as usize);
        let mut keys: Vec<Vec<u8>> = Vec::new();
        while keys.len() < limit {
            let mut next = vec![0; self.key_size];
            let last = keys.last().map_or(std::ptr::null(), |k| k.as_ptr().cast());
            // SAFETY: both buffers have key_size bytes; null asks for the first key.
            let rc =
                unsafe { sys::bpf_map_get_next_key(self.raw(), last, next.as_mut_ptr().cast()) };
            if rc != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT) {
                break;
            }
            self.result(rc, "walk")?;
            keys.push(next);
        }
        Ok(keys)
    }

    fn result(&self, rc: i32, verb: &str) -> Result<()> {
        if rc == 0 {
            return Ok(());
        }
        let cause = io::Error::last_os_error();
        Err(Error::map(format!("cannot {verb} map {}: {cause}", self.id)))
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A loss counter in the kernel: the sum of 64-bit words of element 0.
pub struct Counter {
    map: Map,
    /// None: sum every 8 bytes of the value (per-CPU array); else one word there.
    offset: Option<usize>,
}

impl Counter {
    pub fn per_cpu(map: Map) -> Result<Counter> {
        if map.key_size != 4 || !map.value_size.is_multiple_of(8) || map.value_size == 0 {
            return Err(Error::map(format!(
                "map {} cannot count losses: key {} bytes, value {} bytes",
                map.id, map.key_size, map.value_size
            )));
        }
        Ok(Counter { map, offset: None })
    }

    pub fn word(map: Map, offset: usize) -> Result<Counter> {
        map.check_range(offset, 8)?;
        Ok(Counter { map, offset: Some(offset) })
    }

    pub fn read(&self) -> Result<u64> {
        let value = self.map.lookup(&[0; 4])?.unwrap_or_default();
        let word = |chunk: &[u8]| chunk.try_into().map_or(0, u64::from_ne_bytes);
        Ok(match self.offset {
            Some(at) => value.get(at..at + 8).map_or(0, word),
            None => value.chunks_exact(8).map(word).fold(0, u64::wrapping_add),
        })
    }
}
