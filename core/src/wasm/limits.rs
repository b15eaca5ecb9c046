//! What one module may take.

use std::time::Duration;

use wasmi::{StoreLimits, StoreLimitsBuilder};

/// Bytes of a module in the image.
pub const MODULE: usize = 64 << 20;
/// Bytes of its memory, as in `ig`.
pub const MEMORY: usize = 16 << 20;
/// Elements of all its tables.
pub const TABLE_ELEMENTS: usize = 1 << 20;
pub const TABLES: usize = 16;
/// Nested calls, and bytes of values on their stack.
pub const RECURSION: usize = 10_000;
pub const STACK: usize = 1 << 20;
/// Imports, functions and other items that a module declares.
pub const IMPORTS: usize = 4096;
pub const FUNCTIONS: usize = 200_000;
pub const ITEMS: usize = 100_000;
/// Open handles, as in `ig`.
pub const HANDLES: usize = 4096;
/// Bytes of packets that the module holds, or has emitted and that are not processed yet.
pub const HELD: usize = 64 << 20;
/// Bytes of text that it sets in one event.
pub const EVENT_TEXT: usize = MEMORY;
/// A packet that a callback emits, whose callback emits a packet, and so on.
pub const EMIT_DEPTH: u32 = 8;
pub const SOURCES: usize = 64;
pub const FIELDS: usize = 4096;
pub const SUBSCRIPTIONS: usize = 256;
pub const NAME: usize = 512;
pub const TAG: usize = 512;
pub const TAGS: usize = 64;
pub const CONFIG: usize = 1024;
pub const CONFIG_TEXT: usize = 4096;
/// Maps that it creates, and bytes of one key or value.
pub const MAPS: usize = 4096;
pub const MAP_BYTES: usize = 1 << 20;
pub const PERF_READERS: usize = 1024;
/// Bytes of the buffers of one perf reader, of all processors together.
pub const PERF_BYTES: usize = 256 << 20;
/// Bytes of one log line; lines that wait to be logged; lines a second.
pub const LOG_LINE: usize = 4096;
pub const LOG_LINES: usize = 256;
pub const LOG_RATE: u32 = 50;
/// Bytes kept of what it writes to its standard error.
pub const STDERR: usize = 4096;

/// One call of a callback.
pub const CALLBACK: Duration = Duration::from_secs(1);
/// `_initialize`, `gadgetInit`, `gadgetPreStart` and `gadgetStart`: a slow machine translates a Go
/// runtime meanwhile.
pub const START: Duration = Duration::from_secs(30);
/// `gadgetStop` and `gadgetPostStop`, as in `ig`.
pub const STOP: Duration = Duration::from_secs(42);
/// So many callbacks one after the other that miss their deadline end the module.
pub const MISSED: u32 = 3;

/// What the engine enforces of one instance.
pub fn store_limits() -> StoreLimits {
    StoreLimitsBuilder::new()
        .memory_size(MEMORY)
        .table_elements(TABLE_ELEMENTS)
        .instances(1)
        .tables(TABLES)
        .memories(1)
        .build()
}
