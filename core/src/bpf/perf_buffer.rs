//! A perf event array, read by libbpf: one buffer per CPU.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::mapping::page_size;
use super::sink::{Sink, BROKEN};
use crate::errors::{Error, Result};

/// Bytes of the buffers of all CPUs together, unless the buffer of one CPU is larger.
const MAX_TOTAL: usize = 64 << 20;
/// Bytes of a perf record's header.
const PERF_BODY: usize = 8;
const PERF_FORMAT_LOST: u64 = 1 << 4;

/// What the C callback uses: the sink of the current drain, and the count of lost records.
struct Hook {
    sink: Option<NonNull<Sink<'static>>>,
    lost: u64,
    panicked: bool,
    stopped: bool,
}

pub struct Perf {
    buffer: NonNull<sys::perf_buffer>,
    /// True when the kernel counts what it dropped.
    counts_lost: bool,
    /// Allocated for itself, since libbpf has its address; freed after the buffer.
    hook: NonNull<Hook>,
    /// The CPU whose buffer is read first: it changes, so that a busy CPU does not starve others.
    next_cpu: usize,
    /// Kept open: libbpf uses the descriptor.
    _map: OwnedFd,
}

// SAFETY: libbpf's buffers have no thread affinity; &mut self serialises their use.
unsafe impl Send for Perf {}

/// Passes the sample to the sink; a negative result stops libbpf.
fn deliver(hook: &mut Hook, data: *const c_void, size: usize) -> c_int {
    let Some(mut sink) = hook.sink else { return -libc::ECANCELED };
    let sample: &[u8] = if size == 0 || data.is_null() {
        &[]
    } else {
        // SAFETY: libbpf passes `size` readable bytes, valid during the callback.
        unsafe { std::slice::from_raw_parts(data.cast(), size) }
    };
    // SAFETY: set by `drain`, which outlives the callback and lends the sink exclusively.
    let sink = unsafe { sink.as_mut() };
    // A panic must not unwind through C frames.
    match catch_unwind(AssertUnwindSafe(|| sink(sample))) {
        Ok(true) => 0,
        Ok(false) => {
            hook.stopped = true;
            -libc::ECANCELED
        }
        Err(_) => {
            hook.panicked = true;
            -libc::ECANCELED
        }
    }
}

/// Takes a perf record: samples go to the sink, and the counts in lost records are added up.
unsafe extern "C" fn on_perf(
    ctx: *mut c_void,
    _cpu: c_int,
    record: *mut sys::perf_event_header,
) -> sys::bpf_perf_event_ret {
    // SAFETY: ctx is the Hook boxed by the Perf that is draining.
    let hook = unsafe { &mut *ctx.cast::<Hook>() };
    // SAFETY: libbpf passes a whole record, contiguous, of the size its header says.
    let record =
        unsafe { std::slice::from_raw_parts(record.cast::<u8>(), usize::from((*record).size)) };
    let word = |at: usize, size: usize| record.get(at..at + size).unwrap_or_default();
    match number::<4>(word(0, 4)).map(u32::from_ne_bytes) {
        // u32 size, then the bytes, padded to a multiple of 8.
        Some(sys::PERF_RECORD_SAMPLE) => {
            let size = number(word(PERF_BODY, 4)).map_or(0, u32::from_ne_bytes) as usize;
            let start = PERF_BODY + 4;
            let sample = record.get(start..record.len().min(start.saturating_add(size)));
            let sample = sample.unwrap_or_default();
            if deliver(hook, sample.as_ptr().cast(), sample.len()) < 0 {
                return sys::LIBBPF_PERF_EVENT_DONE;
            }
        }
        // u64 id, u64 count.
        Some(sys::PERF_RECORD_LOST) => {
            let count = number(word(PERF_BODY + 8, 8)).map_or(0, u64::from_ne_bytes);
            hook.lost = hook.lost.saturating_add(count);
        }
        _ => {}
    }
    sys::LIBBPF_PERF_EVENT_CONT
}

fn number<const N: usize>(raw: &[u8]) -> Option<[u8; N]> {
    raw.try_into().ok()
}

/// Opens one perf buffer per CPU. With `count_lost` the kernel counts what it drops, which can be
/// read at any time (Linux 6.0); lost records come only before a later sample.
///
/// # Safety
/// `map` must be open and `ctx` a Hook that outlives the buffer.
unsafe fn open_perf(
    map: RawFd,
    pages: usize,
    ctx: *mut c_void,
    count_lost: bool,
) -> Option<NonNull<sys::perf_buffer>> {
    let mut attr = sys::perf_event_attr {
        type_: sys::PERF_TYPE_SOFTWARE,
        size: size_of::<sys::perf_event_attr>() as u32,
        config: sys::PERF_COUNT_SW_BPF_OUTPUT.into(),
        sample_type: sys::PERF_SAMPLE_RAW.into(),
        read_format: if count_lost { PERF_FORMAT_LOST } else { 0 },
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_period = 1;
    attr.__bindgen_anon_2.wakeup_events = 1;
    // SAFETY: the caller vouches for map and ctx; attr outlives the call.
    NonNull::new(unsafe {
        sys::perf_buffer__new_raw(
            map,
            pages as sys::size_t,
            &mut attr,
            Some(on_perf),
            ctx,
            std::ptr::null(),
        )
    })
}

/// Pages of one CPU's buffer, a power of two (kernel: perf_mmap).
fn pages(bytes: usize, cpus: usize, page: usize) -> usize {
    let each = bytes.min(MAX_TOTAL.max(bytes) / cpus) / page;
    1 << each.max(1).ilog2()
}

impl Perf {
    /// Opens buffers of about `bytes` per CPU.
    pub fn open(map: OwnedFd, bytes: usize) -> io::Result<Perf> {
        // SAFETY: a plain call.
        let cpus = unsafe { sys::libbpf_num_possible_cpus() };
        let pages = pages(bytes, cpus.max(1) as usize, page_size());
        let hook = Box::new(Hook { sink: None, lost: 0, panicked: false, stopped: false });
        let hook = NonNull::from(Box::leak(hook));
        let ctx: *mut c_void = hook.as_ptr().cast();
        let fd = map.as_raw_fd();
        for counts_lost in [true, false] {
            // SAFETY: fd is an open map; the hook outlives the buffer.
            if let Some(buffer) = unsafe { open_perf(fd, pages, ctx, counts_lost) } {
                return Ok(Perf { buffer, counts_lost, hook, next_cpu: 0, _map: map });
            }
        }
        let cause = io::Error::last_os_error();
        // SAFETY: leaked above and given to no buffer that exists.
        drop(unsafe { Box::from_raw(hook.as_ptr()) });
        Err(cause)
    }

    pub fn epoll_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: a live buffer, whose descriptor stays open as long as it lives.
        unsafe { BorrowedFd::borrow_raw(sys::perf_buffer__epoll_fd(self.buffer.as_ptr())) }
    }

    /// Samples that the kernel dropped.
    pub fn lost(&self) -> u64 {
        if self.counts_lost {
            return total_lost(self.buffer);
        }
        // SAFETY: alive until drop; no callback runs outside `drain`.
        unsafe { self.hook.as_ref() }.lost
    }

    pub fn drain(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        let sink: *mut Sink<'_> = sink;
        // SAFETY: only the lifetime is changed; the pointer is cleared before this call
        // returns, so no callback sees it later.
        let sink: *mut Sink<'static> = unsafe { std::mem::transmute(sink) };
        // SAFETY: alive until drop; callbacks run only inside the calls below.
        unsafe {
            let hook = self.hook.as_mut();
            hook.sink = NonNull::new(sink);
            hook.stopped = false;
        }
        let rc = self.drain_cpus();
        // SAFETY: as above; no callback runs any more.
        let hook = unsafe { self.hook.as_mut() };
        hook.sink = None;
        if std::mem::take(&mut hook.panicked) {
            return Err(Error::map(BROKEN));
        }
        if rc < 0 && rc != -libc::ECANCELED {
            let cause = io::Error::from_raw_os_error(-rc);
            return Err(Error::map(format!("reading events failed: {cause}")));
        }
        Ok(())
    }

    /// Reads the buffers CPU by CPU, until the sink returns false.
    fn drain_cpus(&mut self) -> c_int {
        let buffer = self.buffer.as_ptr();
        // SAFETY: a live perf buffer.
        let count = unsafe { sys::perf_buffer__buffer_cnt(buffer) } as usize;
        for _ in 0..count {
            let cpu = self.next_cpu % count;
            self.next_cpu = cpu + 1;
            // SAFETY: a live perf buffer and an index below its count.
            let rc = unsafe { sys::perf_buffer__consume_buffer(buffer, cpu as sys::size_t) };
            // SAFETY: alive until drop; the callbacks are done.
            if rc < 0 || unsafe { self.hook.as_ref() }.stopped {
                return rc.min(0);
            }
        }
        0
    }
}

/// The sum of the kernel's counts of all CPUs.
fn total_lost(perf: NonNull<sys::perf_buffer>) -> u64 {
    // SAFETY: a live perf buffer.
    let count = unsafe { sys::perf_buffer__buffer_cnt(perf.as_ptr()) };
    let mut total = 0u64;
    for index in 0..count {
        // With PERF_FORMAT_LOST alone, read(2) returns the event's value and its lost records.
        let mut words = [0u64; 2];
        // SAFETY: an index below the count, and as many writable bytes as said.
        let n = unsafe {
            let fd = sys::perf_buffer__buffer_fd(perf.as_ptr(), index);
            libc::read(fd, words.as_mut_ptr().cast(), size_of_val(&words))
        };
        if n == size_of_val(&words) as isize {
            total = total.saturating_add(words[1]);
        }
    }
    total
}

impl Drop for Perf {
    fn drop(&mut self) {
        // SAFETY: owned since open and freed once.
        unsafe { sys::perf_buffer__free(self.buffer.as_ptr()) };
        // SAFETY: leaked by open; the buffer that knew it is gone.
        drop(unsafe { Box::from_raw(self.hook.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::pages;

    #[test]
    fn buffers_are_powers_of_two_and_bounded_together() {
        assert_eq!(pages(256 << 10, 2, 4096), 64);
        assert_eq!(pages(8 << 20, 2, 4096), 2048);
        assert_eq!(pages((8 << 20) - 1, 2, 4096), 1024);
        assert_eq!(pages(8 << 20, 128, 4096), 128);
        assert_eq!(pages(1 << 30, 2, 4096), 1 << 17);
        assert_eq!(pages(1, 4096, 65536), 1);
    }
}
