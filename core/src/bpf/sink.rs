//! What takes samples from the readers of ring buffers and perf buffers.

/// Takes one sample; false asks the reader to stop.
pub type Sink<'a> = dyn FnMut(&[u8]) -> bool + 'a;

/// The error of a sink that panicked.
pub(super) const BROKEN: &str = "a sample broke the pipeline; this is a defect of ig-py";
