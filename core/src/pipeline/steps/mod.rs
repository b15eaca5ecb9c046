//! Formatters, one concept a file: numbers to the texts people read.

pub mod context;
pub mod digits;
pub mod duration;
pub mod enums;
pub mod files;
pub mod input;
pub mod layout;
pub mod net;
pub mod stack;
pub mod time;
