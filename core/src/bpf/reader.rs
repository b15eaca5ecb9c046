//! The reader of a tracer map, which is a ring buffer or a perf event array.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::AtomicUsize;
use std::sync::Arc;

use libbpf_sys as sys;

use super::perf_buffer::Perf;
use super::ring::Ring;
use super::sink::{Sink, BROKEN};
use super::{log, map};
use crate::errors::{Error, Result};

pub enum Reader {
    Ring(Ring),
    Perf(Perf),
}

impl Reader {
    /// `perf_bytes` is the size of each CPU's buffer of a perf event array.
    pub fn open(fd: OwnedFd, name: &str, perf_bytes: usize) -> Result<Reader> {
        let fail = |why: String| Error::map(format!("cannot read map {name}: {why}"));
        let info = map::info(fd.as_fd()).map_err(|e| fail(e.to_string()))?;
        let (opened, said) = log::capture(|| match info.map_type {
            sys::BPF_MAP_TYPE_RINGBUF => {
                Ring::open(fd, info.max_entries as usize).map(Reader::Ring)
            }
            sys::BPF_MAP_TYPE_PERF_EVENT_ARRAY => Perf::open(fd, perf_bytes).map(Reader::Perf),
            other => Err(std::io::Error::other(format!(
                "type {other} is neither ring buffer nor perf event array"
            ))),
        });
        opened.map_err(|e| Error::of_map(&e, format!("cannot read map {name}: {e}")).with_log(said))
    }

    /// Becomes readable when samples wait.
    pub fn epoll_fd(&self) -> BorrowedFd<'_> {
        match self {
            Reader::Ring(ring) => ring.epoll_fd(),
            Reader::Perf(perf) => perf.epoll_fd(),
        }
    }

    /// Of a ring buffer: the position of the sample that the sink sees, and the map.
    pub fn position(&self) -> Option<(Arc<AtomicUsize>, OwnedFd)> {
        match self {
            Reader::Ring(ring) => ring.position().ok(),
            Reader::Perf(_) => None,
        }
    }

    /// Perf samples that the kernel dropped. None for ring buffers: the kernel does not count there.
    pub fn lost(&self) -> Option<u64> {
        match self {
            Reader::Ring(_) => None,
            Reader::Perf(perf) => Some(perf.lost()),
        }
    }

    /// Bytes that are not read yet, and the size of the ring buffer; None for perf buffers.
    pub fn filled(&self) -> Option<(usize, usize)> {
        match self {
            Reader::Ring(ring) => Some(ring.filled()),
            Reader::Perf(_) => None,
        }
    }

    /// Feeds samples to `sink`, in place, until there are no more or `sink` returns false.
    pub fn drain(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        match self {
            Reader::Perf(perf) => perf.drain(sink),
            Reader::Ring(ring) => catch_unwind(AssertUnwindSafe(|| ring.drain(sink)))
                .unwrap_or_else(|_| Err(Error::map(BROKEN))),
        }
    }
}
