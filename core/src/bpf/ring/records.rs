//! The records of a BPF ring buffer in memory, read by the protocol that the kernel documents
//! (Documentation/bpf/ringbuf.rst).

use std::ptr::NonNull;
use std::sync::atomic::{fence, AtomicU32, AtomicUsize, Ordering};

use crate::bpf::sink::Sink;

const HEADER: usize = 8;
/// Bits of a header's length (uapi BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT).
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
/// Consumed bytes after which the consumer's position is published. Publishing moves a cache line
/// that producers read for every record…
const PUBLISH: usize = 64 << 10;
/// …but it happens at least this often in a round, so that a small ring buffer does not become
/// full meanwhile.
const PUBLISH_PART: usize = 8;

/// The positions and the data of a ring buffer. All pointers stay valid as long as the value.
pub struct RingMemory {
    pub consumer: NonNull<AtomicUsize>,
    pub producer: NonNull<AtomicUsize>,
    pub data: NonNull<u8>,
    /// Bytes of data, a power of two.
    pub size: usize,
}

enum Next<'a> {
    Sample(&'a [u8]),
    Discarded,
    /// The record is not written to its end yet.
    Wait,
}

impl RingMemory {
    pub fn consumer(&self) -> &AtomicUsize {
        // SAFETY: aligned and alive as the type promises; shared with the kernel.
        unsafe { self.consumer.as_ref() }
    }

    pub fn produced(&self) -> usize {
        // SAFETY: as above. Acquire: every record before the position has a header.
        unsafe { self.producer.as_ref() }.load(Ordering::Acquire)
    }

    /// The record at `position`, which lies before `produced`, and the position of the next.
    fn record<'a>(
        &'a self,
        position: usize,
        produced: usize,
        scratch: &'a mut Vec<u8>,
    ) -> std::result::Result<(Next<'a>, usize), String> {
        let ahead = produced.wrapping_sub(position);
        if ahead > self.size || !position.is_multiple_of(HEADER) {
            return Err(format!("it holds {ahead} bytes at {position}, its size is {}", self.size));
        }
        let mask = self.size - 1;
        // SAFETY: records start at multiples of 8 and the size is one: inside and aligned.
        // Acquire: all bytes of a record that is not busy are written.
        let header = unsafe {
            let at = self.data.as_ptr().add(position & mask).cast::<AtomicU32>();
            (*at).load(Ordering::Acquire)
        };
        if header & BUSY != 0 {
            return Ok((Next::Wait, position));
        }
        let length = (header & !(BUSY | DISCARD)) as usize;
        let whole = (length + HEADER).next_multiple_of(HEADER);
        if whole > ahead {
            return Err(format!("a record of {length} bytes where {ahead} were written"));
        }
        let next = position.wrapping_add(whole);
        if header & DISCARD != 0 {
            return Ok((Next::Discarded, next));
        }
        let start = position.wrapping_add(HEADER) & mask;
        let before_end = length.min(self.size - start);
        // SAFETY: both ranges lie inside the data, and the kernel writes nothing there
        // before the consumer's position has passed.
        let (head, tail) = unsafe {
            let data = self.data.as_ptr();
            (
                std::slice::from_raw_parts(data.add(start), before_end),
                std::slice::from_raw_parts(data, length - before_end),
            )
        };
        if tail.is_empty() {
            return Ok((Next::Sample(head), next));
        }
        scratch.clear();
        scratch.extend_from_slice(head);
        scratch.extend_from_slice(tail);
        Ok((Next::Sample(scratch), next))
    }

    /// Feeds records to `sink` until there are no more, `sink` returns false, or twice the size of
    /// the ring buffer has been read (producers may be faster than any sink). `at` is the
    /// position of the record that the sink sees.
    pub fn drain(
        &self,
        sink: &mut Sink<'_>,
        scratch: &mut Vec<u8>,
        at: &AtomicUsize,
    ) -> std::result::Result<(), String> {
        let every = PUBLISH.min(self.size / PUBLISH_PART);
        let start = self.consumer().load(Ordering::Relaxed);
        let mut done = Consumed { memory: self, position: start, published: start };
        let mut produced = self.produced();
        loop {
            let mut wait = done.position == produced;
            let mut stop = false;
            if !wait {
                let (next, after) = self.record(done.position, produced, scratch)?;
                at.store(done.position, Ordering::Relaxed);
                // Before the call: a sample on which the sink panics is not read again.
                done.position = after;
                match next {
                    Next::Sample(sample) => stop = !sink(sample),
                    Next::Discarded => {}
                    Next::Wait => wait = true,
                }
            }
            if stop || done.position.wrapping_sub(start) >= 2 * self.size {
                return Ok(());
            }
            if wait || done.unpublished() >= every {
                let nothing_new = done.unpublished() == 0;
                done.publish();
                if nothing_new {
                    return Ok(());
                }
                // A producer wakes a waiting consumer only if the consumer's position is at the
                // new record. With the fence, either the producer sees this position, or the
                // record is seen here.
                fence(Ordering::SeqCst);
                produced = self.produced();
            }
        }
    }
}

/// The position of a drain. It is published at the latest when the drain ends, also by a panic.
struct Consumed<'a> {
    memory: &'a RingMemory,
    position: usize,
    published: usize,
}

impl Consumed<'_> {
    fn unpublished(&self) -> usize {
        self.position.wrapping_sub(self.published)
    }

    fn publish(&mut self) {
        // Release: the bytes are read before producers may overwrite them.
        self.memory.consumer().store(self.position, Ordering::Release);
        self.published = self.position;
    }
}

impl Drop for Consumed<'_> {
    fn drop(&mut self) {
        self.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 4096;

    /// A ring buffer in ordinary memory, written as the kernel writes it.
    struct Synthetic {
        positions: Box<[AtomicUsize; 2]>,
        data: Vec<u64>,
        scratch: Vec<u8>,
    }

    impl Synthetic {
        fn at(position: usize) -> Synthetic {
            let positions = Box::new([AtomicUsize::new(position), AtomicUsize::new(position)]);
            Synthetic { positions, data: vec![0; SIZE / 8], scratch: Vec::new() }
        }

        fn memory(&mut self) -> RingMemory {
            let data = NonNull::new(self.data.as_mut_ptr().cast()).unwrap();
            let [consumer, producer] = &*self.positions;
            RingMemory { consumer: consumer.into(), producer: producer.into(), data, size: SIZE }
        }

        fn poke(&mut self, position: usize, bytes: &[u8]) {
            for (i, byte) in bytes.iter().enumerate() {
                let at = (position + i) % SIZE;
                let mut word = self.data[at / 8].to_ne_bytes();
                word[at % 8] = *byte;
                self.data[at / 8] = u64::from_ne_bytes(word);
            }
        }

        fn write(&mut self, body: &[u8], flags: u32) {
            let position = self.positions[1].load(Ordering::Relaxed);
            self.poke(position, &(body.len() as u32 | flags).to_ne_bytes());
            self.poke(position + HEADER, body);
            let next = position + (body.len() + HEADER).next_multiple_of(HEADER);
            self.positions[1].store(next, Ordering::Relaxed);
        }

        fn drain(&mut self, most: usize) -> std::result::Result<Vec<Vec<u8>>, String> {
            let mut seen = Vec::new();
            let mut scratch = std::mem::take(&mut self.scratch);
            self.memory().drain(
                &mut |sample| {
                    seen.push(sample.to_vec());
                    seen.len() < most
                },
                &mut scratch,
                &AtomicUsize::new(0),
            )?;
            Ok(seen)
        }

        fn left(&self) -> usize {
            self.positions[1].load(Ordering::Relaxed) - self.positions[0].load(Ordering::Relaxed)
        }
    }

    #[test]
    fn records_come_once_and_in_order() {
        let mut ring = Synthetic::at(0);
        assert_eq!(ring.drain(9).unwrap(), Vec::<Vec<u8>>::new());
        ring.write(b"one", 0);
        ring.write(b"", 0);
        ring.write(b"12345678", 0);
        assert_eq!(ring.drain(1).unwrap(), [b"one"]);
        assert_eq!(ring.drain(9).unwrap(), [&b""[..], b"12345678"]);
        assert_eq!(ring.left(), 0);
    }

    #[test]
    fn every_place_of_the_end_is_wrapped_around() {
        let body: Vec<u8> = (1..=100).collect();
        for start in (SIZE - 200..SIZE + 16).step_by(8) {
            let mut ring = Synthetic::at(start);
            for _ in 0..3 {
                ring.write(&body, 0);
            }
            assert_eq!(ring.drain(9).unwrap(), [&body[..], &body, &body], "from {start}");
            assert_eq!(ring.left(), 0);
        }
    }

    #[test]
    fn positions_may_overflow() {
        let mut ring = Synthetic::at(usize::MAX - 7);
        ring.poke(0usize.wrapping_sub(8), &3u32.to_ne_bytes());
        ring.poke(0, b"end");
        ring.positions[1].store(8, Ordering::Relaxed);
        assert_eq!(ring.drain(9).unwrap(), [b"end"]);
        assert_eq!(ring.positions[0].load(Ordering::Relaxed), 8);
    }

    #[test]
    fn discarded_records_are_passed_over_and_busy_ones_awaited() {
        let mut ring = Synthetic::at(SIZE - 16);
        ring.write(b"dropped by its writer", DISCARD);
        ring.write(b"kept", 0);
        let busy = ring.positions[1].load(Ordering::Relaxed);
        ring.write(b"late", BUSY);
        ring.write(b"after", 0);
        assert_eq!(ring.drain(9).unwrap(), [b"kept"]);
        assert_eq!(ring.positions[0].load(Ordering::Relaxed), busy);
        assert_eq!(ring.drain(9).unwrap(), Vec::<Vec<u8>>::new());
        ring.poke(busy, &4u32.to_ne_bytes());
        assert_eq!(ring.drain(9).unwrap(), [&b"late"[..], b"after"]);
    }

    #[test]
    fn a_full_ring_is_read_whole_and_producers_learn_it_meanwhile() {
        let mut ring = Synthetic::at(24);
        let body = [7; 56];
        for _ in 0..SIZE / 64 {
            ring.write(&body, 0);
        }
        let consumer: *const AtomicUsize = &ring.positions[0];
        let (mut seen, mut known) = (0, 0);
        ring.memory()
            .drain(
                &mut |sample| {
                    assert_eq!(sample, body);
                    // SAFETY: the box of positions outlives the drain.
                    known = unsafe { &*consumer }.load(Ordering::Relaxed);
                    seen += 1;
                    assert!(24 + seen * 64 - known <= SIZE / PUBLISH_PART + 64);
                    true
                },
                &mut Vec::new(),
                &AtomicUsize::new(0),
            )
            .unwrap();
        assert_eq!((seen, ring.left()), (SIZE / 64, 0));
    }

    #[test]
    fn lengths_that_cannot_be_are_errors() {
        for length in [SIZE as u32, 17, DISCARD - 1, (DISCARD - 1) | DISCARD, 100 | DISCARD] {
            let mut ring = Synthetic::at(0);
            ring.write(b"first", 0);
            ring.write(b"second", 0);
            ring.poke(16, &length.to_ne_bytes());
            assert!(ring.drain(9).is_err(), "{length:#x}");
            assert_eq!(ring.left(), 16);
            assert!(ring.drain(9).is_err());
        }
        for (consumed, produced) in [(0, SIZE + 8), (8, 0), (4, 16)] {
            let mut ring = Synthetic::at(0);
            ring.positions[0].store(consumed, Ordering::Relaxed);
            ring.positions[1].store(produced, Ordering::Relaxed);
            assert!(ring.drain(9).is_err());
        }
    }

    #[test]
    fn a_sample_that_breaks_the_sink_is_consumed() {
        let mut ring = Synthetic::at(0);
        ring.write(b"good", 0);
        ring.write(b"bad", 0);
        ring.write(b"next", 0);
        let memory = ring.memory();
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            memory.drain(
                &mut |sample| sample != b"bad" || panic!("broken"),
                &mut Vec::new(),
                &AtomicUsize::new(0),
            )
        }));
        assert!(broken.is_err());
        assert_eq!(ring.drain(9).unwrap(), [b"next"]);
    }

    #[test]
    fn writers_that_never_pause_do_not_hold_the_reader() {
        let mut ring = Synthetic::at(0);
        ring.write(&[1; 56], 0);
        let producer: *const AtomicUsize = &ring.positions[1];
        let mut seen = 0usize;
        ring.data = [0x38u64, 0, 0, 0, 0, 0, 0, 0].repeat(SIZE / 64);
        ring.memory()
            .drain(
                &mut |_| {
                    seen += 1;
                    // SAFETY: the box of positions outlives the drain.
                    unsafe { &*producer }.fetch_add(64, Ordering::Relaxed);
                    true
                },
                &mut Vec::new(),
                &AtomicUsize::new(0),
            )
            .unwrap();
        assert_eq!(seen, 2 * SIZE / 64);
    }
}
