//! What the value of a field depends on.

use std::ops::Range;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// The value is the same in every event.
    Nothing,
    /// These bytes of the sample, and the names of users and groups.
    Sample(Range<usize>),
    /// The container that was found for the event.
    Container,
    Anything,
}
