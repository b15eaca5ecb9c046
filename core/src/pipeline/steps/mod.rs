//! Formatters, one concept a file: numbers to the texts people read.

pub mod duration;
pub mod enums;
pub mod files;
pub mod layout;
pub mod net;
pub mod stack;
pub mod time;
