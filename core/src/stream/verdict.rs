//! What is decided about a mount namespace.

/// What user space found out about a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its events are wanted.
    Keep,
    /// Its events are not wanted.
    Reject,
    /// The namespace was not identified in time.
    Lose,
}
