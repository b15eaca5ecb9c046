//! A BPF ring buffer that is mapped and read in place.
//!
//! The kernel offers the data pages twice in a row, so that no record is cut. Only one copy is
//! mapped here, since each mapped page counts as resident memory; the rare record that wraps
//! around the end is copied into a scratch buffer.

mod records;
pub mod wakes;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::mapping::{page_size, Mapping};
use super::sink::Sink;
use crate::errors::{Error, Result};
use records::RingMemory;

pub struct Ring {
    memory: RingMemory,
    scratch: Vec<u8>,
    /// Position of the sample that the sink sees.
    at: Arc<AtomicUsize>,
    _consumer: Mapping,
    _data: Mapping,
    /// Kept open: epoll waits on this descriptor.
    map: OwnedFd,
}

// SAFETY: mappings have no thread affinity; &mut self serialises their use.
unsafe impl Send for Ring {}

impl Ring {
    /// `size` is the map's `max_entries`.
    pub fn open(map: OwnedFd, size: usize) -> io::Result<Ring> {
        let page = page_size();
        if !size.is_power_of_two() || size < page {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let fd = map.as_fd().as_raw_fd();
        let consumer = Mapping::shared(fd, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        let data = Mapping::shared(fd, page, page + size, libc::PROT_READ)?;
        let memory = RingMemory {
            consumer: consumer.start.cast(),
            producer: data.start.cast(),
            // SAFETY: the page of the producer's position is followed by the data.
            data: unsafe { data.start.add(page) },
            size,
        };
        Ok(Ring {
            memory,
            scratch: Vec::new(),
            at: Arc::default(),
            _consumer: consumer,
            _data: data,
            map,
        })
    }

    pub fn epoll_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// The position of the sample that the sink sees, and the ring buffer's map.
    pub fn position(&self) -> io::Result<(Arc<AtomicUsize>, OwnedFd)> {
        Ok((Arc::clone(&self.at), self.map.try_clone()?))
    }

    /// To be used no longer than the ring buffer lives.
    pub fn peek(&self) -> Peek {
        Peek { consumer: self.memory.consumer, producer: self.memory.producer }
    }

    /// Bytes that are not read yet, and the size.
    pub fn filled(&self) -> (usize, usize) {
        let consumed = self.memory.consumer().load(Ordering::Relaxed);
        (self.memory.produced().wrapping_sub(consumed), self.memory.size)
    }

    pub fn drain(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        let Ring { memory, scratch, at, .. } = self;
        memory
            .drain(sink, scratch, at)
            .map_err(|why| Error::map(format!("the ring buffer is damaged: {why}")))
    }
}

/// Tells any thread whether a ring buffer is empty.
pub struct Peek {
    consumer: NonNull<AtomicUsize>,
    producer: NonNull<AtomicUsize>,
}

// SAFETY: atomics in shared memory; the owner of a peek also owns the ring buffer.
unsafe impl Send for Peek {}
// SAFETY: as above.
unsafe impl Sync for Peek {}

impl Peek {
    #[inline]
    pub fn waits(&self) -> bool {
        // SAFETY: mapped as long as the ring lives. Acquire: a record that was complete before
        // an event was written is seen by every thread that has read the event.
        let (consumed, produced) = unsafe {
            (
                self.consumer.as_ref().load(Ordering::Acquire),
                self.producer.as_ref().load(Ordering::Acquire),
            )
        };
        consumed != produced
    }
}
