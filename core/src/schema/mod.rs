//! What a plan declares and what its values are read from: fields, one event, and the lookups
//! beside it.

pub mod dependency;
pub mod event;
pub mod field;
pub mod lookups;
pub mod plan;
pub mod texts;
pub mod wall;
