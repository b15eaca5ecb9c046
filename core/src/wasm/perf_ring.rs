//! The buffers of a perf event array, one for each processor, as the module reads them: record by
//! record; of an overwritable buffer while it is paused, the newest record first
//! (perf_event_open(2), `write_backward`).

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use libbpf_sys as sys;

use super::limits;
use crate::bpf::map::Map;
use crate::bpf::mapping::{page_size, Mapping};
use crate::fds::owned;

/// Bytes of a record's header: type, misc, size.
const HEADER: usize = 8;
const PAUSE_OUTPUT: libc::c_ulong = 0x4004_2409;
const ENABLE: libc::c_ulong = 0x2400;

struct Ring {
    fd: OwnedFd,
    mapping: Mapping,
    page: usize,
    size: usize,
    /// Of an overwritable ring that is read: where the next record begins, and where they end.
    window: Option<(u64, u64)>,
}

pub struct PerfReader {
    rings: Vec<Ring>,
    overwritable: bool,
    /// The ring that is read.
    current: usize,
    record: Vec<u8>,
}

fn open_event(cpu: i32, overwritable: bool) -> std::io::Result<OwnedFd> {
    let mut attr = sys::perf_event_attr {
        type_: sys::PERF_TYPE_SOFTWARE,
        size: size_of::<sys::perf_event_attr>() as u32,
        config: sys::PERF_COUNT_SW_BPF_OUTPUT.into(),
        sample_type: sys::PERF_SAMPLE_RAW.into(),
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_period = 1;
    attr.__bindgen_anon_2.wakeup_events = 1;
    if overwritable {
        attr.set_write_backward(1);
    }
    // SAFETY: attr outlives the call, which returns a fresh descriptor.
    unsafe {
        let flags = libc::c_ulong::from(sys::PERF_FLAG_FD_CLOEXEC);
        let fd = libc::syscall(libc::SYS_perf_event_open, &attr, -1, cpu, -1, flags);
        owned(fd as i32)
    }
}

// SAFETY: the mapped memory has no thread affinity; `&mut self` serialises its use.
unsafe impl Send for PerfReader {}

impl PerfReader {
    /// Opens buffers of `bytes` for each processor, `room` in all, and puts them into `map`.
    pub fn open(
        map: &Map,
        bytes: usize,
        overwritable: bool,
        room: usize,
    ) -> Result<PerfReader, String> {
        if map.map_type() != sys::BPF_MAP_TYPE_PERF_EVENT_ARRAY {
            return Err("the map is no perf event array".into());
        }
        // SAFETY: a plain call.
        let cpus = unsafe { sys::libbpf_num_possible_cpus() }.max(1);
        let page = page_size();
        let size = bytes.max(1).div_ceil(page).next_power_of_two().saturating_mul(page);
        if size.saturating_mul(cpus as usize) > room {
            return Err(format!(
                "buffers of {size} bytes for each of {cpus} processors, at most {} bytes in all",
                limits::PERF_BYTES
            ));
        }
        let mut rings = Vec::new();
        for cpu in 0..cpus {
            let fd = match open_event(cpu, overwritable) {
                Ok(fd) => fd,
                // The processor is off line.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(e) => return Err(format!("opening the buffer of processor {cpu}: {e}")),
            };
            let write = if overwritable { 0 } else { libc::PROT_WRITE };
            let mapping = Mapping::shared(fd.as_raw_fd(), 0, page + size, libc::PROT_READ | write)
                .map_err(|e| format!("mapping the buffer of processor {cpu}: {e}"))?;
            // SAFETY: an open event.
            if unsafe { libc::ioctl(fd.as_raw_fd(), ENABLE, 0) } != 0 {
                let cause = std::io::Error::last_os_error();
                return Err(format!("enabling the buffer of processor {cpu}: {cause}"));
            }
            map.update(&(cpu as u32).to_ne_bytes(), &(fd.as_raw_fd() as u32).to_ne_bytes())
                .map_err(|e| e.message)?;
            rings.push(Ring { fd, mapping, page, size, window: None });
        }
        Ok(PerfReader { rings, overwritable, current: 0, record: Vec::new() })
    }

    /// Of all buffers.
    pub fn bytes(&self) -> usize {
        self.rings.iter().map(|ring| ring.size).sum()
    }

    pub fn pause(&mut self, pause: bool) -> std::io::Result<()> {
        for ring in &mut self.rings {
            // SAFETY: an open event; the argument is a number.
            let rc = unsafe {
                libc::ioctl(ring.fd.as_raw_fd(), PAUSE_OUTPUT, libc::c_ulong::from(pause))
            };
            if rc != 0 {
                return Err(std::io::Error::last_os_error());
            }
            ring.window = None;
        }
        self.current = 0;
        Ok(())
    }

    /// The next record; None when none is left.
    pub fn read(&mut self) -> Result<Option<&[u8]>, &'static str> {
        while self.current < self.rings.len() {
            let ring = &mut self.rings[self.current];
            let found = match self.overwritable {
                true => ring.read_backward(&mut self.record)?,
                false => ring.read_forward(&mut self.record)?,
            };
            if found {
                return Ok(Some(&self.record));
            }
            self.current += 1;
        }
        if !self.overwritable {
            self.current = 0;
        }
        Ok(None)
    }
}

impl Ring {
    fn control(&self) -> NonNull<sys::perf_event_mmap_page> {
        self.mapping.start.cast()
    }

    fn head(&self) -> u64 {
        // SAFETY: the kernel's page, mapped as long as self.
        unsafe {
            let at = &raw mut (*self.control().as_ptr()).data_head;
            AtomicU64::from_ptr(at).load(Ordering::Acquire)
        }
    }

    /// Copies `length` bytes at position `at` of the data.
    fn copy(&self, at: u64, length: usize, out: &mut Vec<u8>) {
        out.clear();
        let start = (at as usize) & (self.size - 1);
        let first = length.min(self.size - start);
        for (offset, count) in [(start, first), (0, length - first)] {
            // SAFETY: inside of the mapping: offset + count is at most `size`. The kernel may
            // write meanwhile; what is torn is checked by its sizes only, and is data.
            unsafe {
                let from = self.mapping.start.as_ptr().add(self.page + offset);
                let old = out.len();
                out.reserve(count);
                std::ptr::copy_nonoverlapping(from, out.as_mut_ptr().add(old), count);
                out.set_len(old + count);
            }
        }
    }

    /// Takes the record at `at`, of which `left` bytes may be there: its whole size, and whether
    /// `out` has its data. None when there is no record.
    fn take(&self, at: u64, left: u64, out: &mut Vec<u8>) -> Option<(u64, bool)> {
        if left < HEADER as u64 {
            return None;
        }
        self.copy(at, HEADER, out);
        let kind = u32::from_ne_bytes(out[..4].try_into().ok()?);
        let size = u16::from_ne_bytes(out[6..8].try_into().ok()?);
        if usize::from(size) < HEADER || u64::from(size) > left {
            return None;
        }
        if kind != sys::PERF_RECORD_SAMPLE {
            return Some((size.into(), false));
        }
        self.copy(at, size.into(), out);
        // u32 size, then the bytes, padded to a multiple of 8.
        let length = u32::from_ne_bytes(out.get(HEADER..HEADER + 4)?.try_into().ok()?) as usize;
        let start = HEADER + 4;
        let end = start.checked_add(length).filter(|end| *end <= out.len())?;
        out.truncate(end);
        out.drain(..start);
        Some((size.into(), true))
    }

    fn read_backward(&mut self, out: &mut Vec<u8>) -> Result<bool, &'static str> {
        let (mut at, end) = match self.window {
            Some(window) => window,
            None => {
                // The head falls from 0.
                let head = self.head();
                (head, head.wrapping_add(head.wrapping_neg().min(self.size as u64)))
            }
        };
        while let Some((size, found)) = self.take(at, end.wrapping_sub(at), out) {
            at = at.wrapping_add(size);
            self.window = Some((at, end));
            if found {
                return Ok(true);
            }
        }
        self.window = Some((end, end));
        Ok(false)
    }

    fn read_forward(&mut self, out: &mut Vec<u8>) -> Result<bool, &'static str> {
        let head = self.head();
        // SAFETY: the kernel's page, mapped writable as long as self.
        let tail = unsafe { AtomicU64::from_ptr(&raw mut (*self.control().as_ptr()).data_tail) };
        loop {
            let at = tail.load(Ordering::Relaxed);
            let left = head.wrapping_sub(at);
            if left == 0 {
                return Ok(false);
            }
            let Some((size, found)) = self.take(at, left, out) else {
                tail.store(head, Ordering::Release);
                return Err("a record of the buffer is malformed");
            };
            tail.store(at.wrapping_add(size), Ordering::Release);
            if found {
                return Ok(true);
            }
        }
    }
}
