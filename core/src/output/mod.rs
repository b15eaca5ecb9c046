//! Writing rendered batches to a file descriptor of the user's.

mod file;
mod writer;

pub use writer::Writer;
