//! What single steps do: mostly format numbers as text. One kind of text per file.

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
