//! Readers of a tracer map: ring buffer or perf event array, by libbpf.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::{log, map};
use crate::errors::{Error, Result};

/// Pages of each CPU's perf buffer.
const PERF_PAGES: usize = 64;
/// Bytes of a perf record's header.
const PERF_BODY: usize = 8;
const PERF_FORMAT_LOST: u64 = 1 << 4;

/// Takes one sample; false asks to stop draining.
pub type Sink<'a> = dyn FnMut(&[u8]) -> bool + 'a;

/// What the C callbacks reach: the sink of the drain under way, and lost records.
struct Hook {
    sink: Option<NonNull<Sink<'static>>>,
    lost: u64,
    panicked: bool,
    stopped: bool,
}

enum Handle {
    Ring(NonNull<sys::ring_buffer>),
    /// And whether the kernel keeps the total of what it lost.
    Perf(NonNull<sys::perf_buffer>, bool),
}

pub struct Reader {
    handle: Handle,
    /// A box of its own, given to libbpf by address and freed after the handle.
    hook: NonNull<Hook>,
    /// The CPU whose perf buffer is read first, so that a busy one starves no other.
    next_cpu: usize,
    /// Kept open: the buffer's epoll entry is of this descriptor.
    _map: OwnedFd,
}

// SAFETY: libbpf's buffers have no thread affinity; &mut self serialises their use.
unsafe impl Send for Reader {}

/// Hands the sample to the sink; negative stops libbpf.
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

unsafe extern "C" fn on_ring(ctx: *mut c_void, data: *mut c_void, size: sys::size_t) -> c_int {
    // SAFETY: ctx is the Hook boxed by the Reader that is draining.
    deliver(unsafe { &mut *ctx.cast::<Hook>() }, data, size as usize)
}

/// A perf record: samples go to the sink; what the kernel says it dropped is added up.
unsafe extern "C" fn on_perf(
    ctx: *mut c_void,
    _cpu: c_int,
    record: *mut sys::perf_event_header,
) -> sys::bpf_perf_event_ret {
    // SAFETY: ctx is the Hook boxed by the Reader that is draining.
    let hook = unsafe { &mut *ctx.cast::<Hook>() };
    // SAFETY: libbpf passes a whole record, contiguous, of the size its header says.
    let record =
        unsafe { std::slice::from_raw_parts(record.cast::<u8>(), usize::from((*record).size)) };
    let word = |at: usize, size: usize| record.get(at..at + size).unwrap_or_default();
    match number::<4>(word(0, 4)).map(u32::from_ne_bytes) {
        // u32 size, then the bytes (with what pads them to 8).
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

/// Opens one perf buffer a CPU; with `count_lost` the kernel keeps a total that can be
/// read at any time (Linux 6.0), where lost records only come before a later sample.
///
/// # Safety
/// `map` must be open and `ctx` a Hook that outlives the buffer.
unsafe fn open_perf(
    map: RawFd,
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
            PERF_PAGES as sys::size_t,
            &mut attr,
            Some(on_perf),
            ctx,
            std::ptr::null(),
        )
    })
}

impl Reader {
    pub fn open(fd: OwnedFd, name: &str) -> Result<Reader> {
        let fail = |why: String| Error::map(format!("cannot read map {name}: {why}"));
        let info = map::info(fd.as_fd()).map_err(|e| fail(e.to_string()))?;
        let hook = Box::new(Hook { sink: None, lost: 0, panicked: false, stopped: false });
        let hook = NonNull::from(Box::leak(hook));
        let ctx: *mut c_void = hook.as_ptr().cast();
        let raw = fd.as_raw_fd();
        let (handle, said) = log::capture(|| match info.map_type {
            // SAFETY: fd is an open map; hook and callbacks outlive the buffer.
            sys::BPF_MAP_TYPE_RINGBUF => Ok(NonNull::new(unsafe {
                sys::ring_buffer__new(raw, Some(on_ring), ctx, std::ptr::null())
            })
            .map(Handle::Ring)),
            // SAFETY: as above.
            sys::BPF_MAP_TYPE_PERF_EVENT_ARRAY => Ok(unsafe {
                open_perf(raw, ctx, true)
                    .map(|perf| Handle::Perf(perf, true))
                    .or_else(|| open_perf(raw, ctx, false).map(|perf| Handle::Perf(perf, false)))
            }),
            other => Err(format!("type {other} is neither ring buffer nor perf event array")),
        });
        let cause = io::Error::last_os_error();
        let failure = match handle {
            Ok(Some(handle)) => return Ok(Reader { handle, hook, next_cpu: 0, _map: fd }),
            Ok(None) => fail(cause.to_string()),
            Err(why) => fail(why),
        };
        // SAFETY: leaked above and given to no buffer that exists.
        drop(unsafe { Box::from_raw(hook.as_ptr()) });
        Err(failure.with_log(said))
    }

    /// Becomes readable when samples wait.
    pub fn epoll_fd(&self) -> RawFd {
        match self.handle {
            // SAFETY: a live buffer, in both arms.
            Handle::Ring(ring) => unsafe { sys::ring_buffer__epoll_fd(ring.as_ptr()) },
            Handle::Perf(perf, _) => unsafe { sys::perf_buffer__epoll_fd(perf.as_ptr()) },
        }
    }

    /// Perf samples the kernel dropped; None for ring buffers, which do not say.
    pub fn lost(&self) -> Option<u64> {
        match self.handle {
            Handle::Ring(_) => None,
            Handle::Perf(perf, true) => Some(total_lost(perf)),
            // SAFETY: alive until drop; no callback runs outside `drain`.
            Handle::Perf(_, false) => Some(unsafe { self.hook.as_ref() }.lost),
        }
    }

    /// True while a ring buffer is filled less than `1/part`: room to wait for more.
    pub fn has_room(&self, part: usize) -> bool {
        let Handle::Ring(ring) = self.handle else { return false };
        // SAFETY: a live ring buffer with one ring.
        unsafe {
            let ring = sys::ring_buffer__ring(ring.as_ptr(), 0);
            !ring.is_null()
                && sys::ring__avail_data_size(ring) < sys::ring__size(ring) / part as sys::size_t
        }
    }

    /// Feeds what waits to `sink`, in place, until it is empty or `sink` says stop.
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
        let rc = match self.handle {
            // SAFETY: a live buffer whose hook is set.
            Handle::Ring(ring) => unsafe { sys::ring_buffer__consume(ring.as_ptr()) },
            Handle::Perf(perf, _) => self.drain_perf(perf),
        };
        // SAFETY: as above; no callback runs any more.
        let hook = unsafe { self.hook.as_mut() };
        hook.sink = None;
        if std::mem::take(&mut hook.panicked) {
            return Err(Error::map("a sample broke the pipeline; this is a defect of ig-py"));
        }
        if rc < 0 && rc != -libc::ECANCELED {
            let cause = io::Error::from_raw_os_error(-rc);
            return Err(Error::map(format!("reading events failed: {cause}")));
        }
        Ok(())
    }

    /// CPU by CPU, until the sink says stop.
    fn drain_perf(&mut self, perf: NonNull<sys::perf_buffer>) -> c_int {
        // SAFETY: a live perf buffer.
        let count = unsafe { sys::perf_buffer__buffer_cnt(perf.as_ptr()) } as usize;
        for _ in 0..count {
            let cpu = self.next_cpu % count;
            self.next_cpu = cpu + 1;
            // SAFETY: a live perf buffer and an index below its count.
            let rc = unsafe { sys::perf_buffer__consume_buffer(perf.as_ptr(), cpu as sys::size_t) };
            // SAFETY: alive until drop; the callbacks are done.
            if rc < 0 || unsafe { self.hook.as_ref() }.stopped {
                return rc.min(0);
            }
        }
        0
    }
}

/// The kernel's totals of all CPUs.
fn total_lost(perf: NonNull<sys::perf_buffer>) -> u64 {
    // SAFETY: a live perf buffer.
    let count = unsafe { sys::perf_buffer__buffer_cnt(perf.as_ptr()) };
    let mut total = 0u64;
    for index in 0..count {
        // With PERF_FORMAT_LOST alone, read gives the event's value and what it lost.
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

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: owned since open and freed once.
        match self.handle {
            Handle::Ring(ring) => unsafe { sys::ring_buffer__free(ring.as_ptr()) },
            Handle::Perf(perf, _) => unsafe { sys::perf_buffer__free(perf.as_ptr()) },
        }
        // SAFETY: leaked by open; the buffer that knew it is gone.
        drop(unsafe { Box::from_raw(self.hook.as_ptr()) });
    }
}
