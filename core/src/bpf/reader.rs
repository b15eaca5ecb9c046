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
    Perf(NonNull<sys::perf_buffer>),
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

unsafe extern "C" fn on_perf(ctx: *mut c_void, _cpu: c_int, data: *mut c_void, size: u32) {
    // SAFETY: ctx is the Hook boxed by the Reader that is draining.
    deliver(unsafe { &mut *ctx.cast::<Hook>() }, data, size as usize);
}

unsafe extern "C" fn on_lost(ctx: *mut c_void, _cpu: c_int, count: u64) {
    // SAFETY: ctx is the Hook boxed by the Reader that is draining.
    let hook = unsafe { &mut *ctx.cast::<Hook>() };
    hook.lost = hook.lost.saturating_add(count);
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
            sys::BPF_MAP_TYPE_PERF_EVENT_ARRAY => Ok(NonNull::new(unsafe {
                sys::perf_buffer__new(
                    raw,
                    PERF_PAGES as sys::size_t,
                    Some(on_perf),
                    Some(on_lost),
                    ctx,
                    std::ptr::null(),
                )
            })
            .map(Handle::Perf)),
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
            Handle::Perf(perf) => unsafe { sys::perf_buffer__epoll_fd(perf.as_ptr()) },
        }
    }

    /// Perf records the kernel says it dropped; None for ring buffers, which do not say.
    pub fn lost(&self) -> Option<u64> {
        // SAFETY: alive until drop; no callback runs outside `drain`.
        let lost = unsafe { self.hook.as_ref() }.lost;
        matches!(self.handle, Handle::Perf(_)).then_some(lost)
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
            Handle::Perf(perf) => self.drain_perf(perf),
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

    /// A perf callback cannot stop libbpf within one CPU's buffer: it is small, so it is
    /// read to its end, and the next CPUs wait for the next call.
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

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: owned since open and freed once.
        match self.handle {
            Handle::Ring(ring) => unsafe { sys::ring_buffer__free(ring.as_ptr()) },
            Handle::Perf(perf) => unsafe { sys::perf_buffer__free(perf.as_ptr()) },
        }
        // SAFETY: leaked by open; the buffer that knew it is gone.
        drop(unsafe { Box::from_raw(self.hook.as_ptr()) });
    }
}
