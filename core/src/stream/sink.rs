//! What was rendered, and what takes it.

use std::os::fd::BorrowedFd;

use crate::errors::Result;
use crate::pipeline::datasource::Rendered;

/// What one drain rendered of one data source.
#[derive(Debug)]
pub struct Batch {
    pub datasource: String,
    pub rendered: Rendered,
}

impl Batch {
    /// Events that the first `written` bytes show whole.
    pub fn whole_events(&self, written: u64) -> u64 {
        self.rendered.ends.partition_point(|end| u64::from(*end) <= written) as u64
    }
}

pub trait Sink {
    fn put(&mut self, batch: Batch) -> Result<()>;

    /// False while [`Sink::put`] would wait.
    fn room(&self) -> bool {
        true
    }

    /// Readable when there is room again, after [`Sink::room`] was false.
    fn sign_of_room(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl<F: FnMut(Batch) -> Result<()>> Sink for F {
    fn put(&mut self, batch: Batch) -> Result<()> {
        self(batch)
    }
}
