//! The wasm module of a gadget: its host functions, its life, and its callbacks for events.
//!
//! Interface: docs/wasm.md. A module is hostile input: it may loop, trap, ask for memory, or give
//! any number as pointer, handle or kind. Nothing it does panics here, or takes more than
//! [`limits`] allow.

mod calls;
mod data;
mod elements;
mod engine;
mod functions;
mod guest;
mod handles;
mod host;
mod kallsyms;
mod kinds;
pub mod limits;
mod live;
mod log;
mod map_room;
mod memory;
mod model;
mod outbox;
mod perf_ring;
mod shape;
mod syscalls;
mod wasi;
mod work;

pub use elements::Elements;
pub use engine::Module;
pub use guest::{Guest, Stage, Statistics};
pub use live::{ArrayCall, EventCall};
pub use log::Line;
pub use model::SubscriptionKind;
pub use outbox::Packet;
