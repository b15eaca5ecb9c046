//! The cost oracle: processor time and memory of each sample. A sample that costs more than it may
//! is a finding, as a panic is.
//!
//! libFuzzer keeps a sample that costs more than others of its coverage: each step of cost is one
//! of its extra counters. Without them it prefers samples that are cheap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::worst;

/// Processor time of one sample, of any size.
pub const MAX_SECONDS: f64 = 2.0;
/// Memory of one sample at one time, of any size.
pub const MAX_MIB: f64 = 256.0;
/// A sample of few bytes costs less, however it is made.
pub const FLOOR_SECONDS: f64 = 0.25;
pub const FLOOR_MIB: f64 = 32.0;
pub const MAX_MICROSECONDS_PER_BYTE: f64 = 20.0;
pub const MAX_MEMORY_PER_BYTE: f64 = 2048.0;
const MIB: f64 = (1 << 20) as f64;

/// What a sample of `size` bytes takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub seconds: f64,
    pub memory: usize,
    pub size: usize,
}

impl Cost {
    pub fn mib(&self) -> f64 {
        self.memory as f64 / MIB
    }

    pub fn microseconds_per_byte(&self) -> f64 {
        self.seconds * 1e6 / self.size.max(1) as f64
    }

    /// Why it is more than a sample may cost.
    pub fn too_much(&self) -> Option<String> {
        let seconds = self.size as f64 * MAX_MICROSECONDS_PER_BYTE / 1e6;
        let seconds = seconds.clamp(FLOOR_SECONDS, MAX_SECONDS);
        let mib = (self.size as f64 * MAX_MEMORY_PER_BYTE / MIB).clamp(FLOOR_MIB, MAX_MIB);
        if self.seconds > seconds {
            return Some(format!("{:.2} s, at most {seconds:.2} s", self.seconds));
        }
        (self.mib() > mib).then(|| format!("{:.0} MiB, at most {mib:.0} MiB", self.mib()))
    }
}

/// Run the target with one sample.
///
/// # Panics
///
/// When it costs too much.
pub fn measure(data: &[u8], run: fn(&[u8])) {
    let mut cost = once(data, run);
    if worst::exceeds(&cost) || cost.too_much().is_some() {
        // Caches that other processes emptied, and work that is done for the first sample only,
        // are not costs of this one.
        let again = once(data, run);
        cost.seconds = cost.seconds.min(again.seconds);
        cost.memory = cost.memory.min(again.memory);
    }
    worst::learn(&cost);
    steps(&cost);
    if let Some(why) = cost.too_much() {
        panic!("a sample of {} bytes costs too much: {why}", data.len());
    }
}

fn once(data: &[u8], run: fn(&[u8])) -> Cost {
    let allocated = ALLOCATED.load(Relaxed);
    PEAK.store(allocated, Relaxed);
    let began = thread_seconds();
    run(data);
    let seconds = thread_seconds() - began;
    let memory = PEAK.load(Relaxed).saturating_sub(allocated);
    Cost { seconds, memory, size: data.len() }
}

/// Processor time of this thread (clock_gettime(2)): that of a busy machine does not count.
fn thread_seconds() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists since Linux 2.6.12, and writes only to `now`.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    assert_eq!(done, 0, "the thread has a clock");
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

const STEPS: usize = 128;
const STEPS_PER_OCTAVE: f64 = 4.0;

/// libFuzzer clears and reads it a word at a time.
#[repr(C, align(16))]
struct Counters([[u8; STEPS]; 3]);

#[used]
#[link_section = "__libfuzzer_extra_counters"]
static mut COUNTERS: Counters = Counters([[0; STEPS]; 3]);

fn steps(cost: &Cost) {
    let mut reached = [cost.seconds * 1e6, cost.memory as f64, 0.0];
    if cost.size >= worst::COUNTED_BYTES {
        reached[2] = cost.seconds * 1e9 / cost.size as f64;
    }
    for (row, value) in reached.into_iter().enumerate() {
        let step = (value.max(1.0).log2() * STEPS_PER_OCTAVE) as usize;
        // SAFETY: libFuzzer, the only other user, reads it on this thread between samples.
        unsafe { COUNTERS.0[row][step.min(STEPS - 1)] = 1 };
    }
}

/// The system's allocator, which counts what is allocated and its peak.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grown(size: usize) {
    let allocated = ALLOCATED.fetch_add(size, Relaxed) + size;
    PEAK.fetch_max(allocated, Relaxed);
}

fn shrunk(size: usize) {
    ALLOCATED.fetch_sub(size, Relaxed);
}

// SAFETY: each call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrunk(layout.size());
        System.dealloc(at, layout);
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        shrunk(layout.size());
        grown(size);
        System.realloc(at, layout, size)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// The peak is that of the process: one test at a time measures it.
    static ALONE: Mutex<()> = Mutex::new(());

    fn hoards(data: &[u8]) {
        std::hint::black_box(vec![data[0]; 8 << 20]);
    }

    fn works(data: &[u8]) {
        let began = thread_seconds();
        while thread_seconds() - began < 0.5 {
            std::hint::black_box(data);
        }
    }

    #[test]
    fn memory_is_that_of_one_time() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        assert!((8 << 20..64 << 20).contains(&once(b"x", hoards).memory));
    }

    #[test]
    fn a_small_sample_may_take_less() {
        let dear = |size| Cost { seconds: 0.5, memory: 80 << 20, size };
        assert!(dear(1 << 10).too_much().is_some_and(|why| why.contains("at most 0.25 s")));
        assert!(dear(64 << 10).too_much().is_none());
        let memory = Cost { seconds: 0.0, ..dear(1 << 10) };
        assert_eq!(memory.too_much().expect("a finding"), "80 MiB, at most 32 MiB");
    }

    #[test]
    #[should_panic(expected = "at most 0.25 s")]
    fn time_of_a_small_sample_is_limited() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        measure(b"x", works);
    }

    #[test]
    fn time_and_memory_of_no_sample_exceed_the_limits() {
        let whole = Cost { seconds: 2.1, memory: 0, size: 16 << 20 };
        assert!(whole.too_much().is_some());
        let whole = Cost { seconds: 1.9, memory: 257 << 20, size: 16 << 20 };
        assert!(whole.too_much().is_some());
        let whole = Cost { seconds: 1.9, memory: 255 << 20, size: 16 << 20 };
        assert!(whole.too_much().is_none());
    }
}
