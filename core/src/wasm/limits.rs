//! What one module may take.

use std::time::Duration;

use wasmi::{StoreLimits, StoreLimitsBuilder};

/// Bytes of a module in the image.
pub const MODULE: usize = 64 << 20;
/// Bytes of its memory, as in `ig`.
pub const MEMORY: usize = 16 << 20;
/// Elements of each table, which take 16 MiB together; a Go module has 3,000.
pub const TABLE_ELEMENTS: usize = 1 << 16;
pub const TABLES: usize = 16;
/// Nested calls, and bytes of values on their stack.
pub const RECURSION: usize = 10_000;
pub const STACK: usize = 1 << 20;
pub const IMPORTS: usize = 4096;
pub const FUNCTIONS: usize = 200_000;
/// Entries of each other section: types, exports, segments and so on.
pub const ITEMS: usize = 100_000;
/// Bytes of one function: each block that is open takes memory when it is translated. The longest
/// one of a Go runtime has 30,000.
pub const BODY: usize = 1 << 20;
/// Open handles, as in `ig`.
pub const HANDLES: usize = 4096;
/// Bytes of packets that the module holds, or has emitted and that are not processed yet.
pub const HELD: usize = 64 << 20;
/// Bytes of text that it sets in one event.
pub const EVENT_TEXT: usize = MEMORY;
/// A packet that a callback emits, whose callback emits a packet, and so on.
pub const EMIT_DEPTH: u32 = 8;
pub const SOURCES: usize = 64;
/// Fields that it adds, of all data sources together.
pub const FIELDS: usize = 4096;
pub const SUBSCRIPTIONS: usize = 256;
pub const NAME: usize = 512;
pub const TAG: usize = 512;
/// Tags that it adds, of all fields together.
pub const TAGS: usize = 8192;
pub const CONFIG: usize = 1024;
pub const CONFIG_TEXT: usize = 4096;
/// Maps that it makes, those that only a map of maps holds included; bytes of one key or value, and
/// of all keys and values of all of them.
pub const MAPS: usize = 4096;
pub const MAP_BYTES: usize = 1 << 20;
pub const ALL_MAPS_BYTES: u64 = 256 << 20;
/// Beside the key and the value of an entry, in the kernel.
pub const MAP_ENTRY: u64 = 64;
pub const PERF_READERS: usize = 1024;
/// Bytes of the buffers of all perf readers, of all processors together.
pub const PERF_BYTES: usize = 1 << 30;
/// Bytes of one log line; lines that wait to be logged; lines a second.
pub const LOG_LINE: usize = 4096;
pub const LOG_LINES: usize = 256;
pub const LOG_RATE: u32 = 50;
/// Bytes kept of what it writes to its standard error.
pub const STDERR: usize = 4096;

/// One call of a callback.
pub const CALLBACK: Duration = Duration::from_secs(1);
/// `_initialize`, `gadgetInit`, `gadgetPreStart` and `gadgetStart`, each: they may sleep.
pub const START: Duration = Duration::from_secs(30);
/// Instructions of these four together.
pub const START_INSTRUCTIONS: u64 = 500_000_000;
/// What host functions take for these four together, on a usual machine.
pub const START_HOST: Duration = Duration::from_millis(500);
/// Instructions of a start section.
pub const START_SECTION: u64 = 20_000_000;
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
