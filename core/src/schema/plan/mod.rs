//! The plan document as Python writes it (docs/plan.md).

mod output;
mod steps;

use serde::Deserialize;

use crate::errors::{Error, Result};

pub use output::{Align, Capture, Column, Ellipsis, InterfacePart, Mode, Output};
pub use steps::{KernelStack, Pair, StackFields, Step, UserStack};

pub const VERSION: u32 = 1;
const MAX_PLAN: usize = 32 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub version: u32,
    /// Realtime minus boottime; None: those of this machine, whenever the clock is set.
    #[serde(default)]
    pub clock_offset_ns: Option<i64>,
    /// None: of this process's zone, at each time.
    #[serde(default)]
    pub timezone_offset_s: Option<i32>,
    /// The proc file system in which processes are found, and its pid namespace (0: not known).
    #[serde(default = "proc_root")]
    pub proc: String,
    #[serde(default)]
    pub pidns: u64,
    #[serde(default)]
    pub symbols: Symbols,
    /// Bytes of samples that may wait in memory to be rendered.
    #[serde(default = "backlog_bytes")]
    pub backlog_bytes: usize,
    pub datasources: Vec<DataSource>,
}

/// Where user stacks get their names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symbols {
    pub symtab: bool,
    #[serde(default)]
    pub debuginfod: Option<String>,
}

impl Default for Symbols {
    fn default() -> Symbols {
        Symbols { symtab: true, debuginfod: None }
    }
}

fn backlog_bytes() -> usize {
    56 << 20
}

fn proc_root() -> String {
    "/proc".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    pub name: String,
    #[serde(default)]
    pub map: Option<String>,
    #[serde(default)]
    pub loss_map: Option<String>,
    #[serde(default)]
    pub loss_var: Option<LossVar>,
    #[serde(default)]
    pub loss_table: Option<LossTable>,
    #[serde(default)]
    pub perf_bytes: Option<usize>,
    pub sample_size: usize,
    #[serde(default)]
    pub min_size: usize,
    #[serde(default)]
    pub keep: bool,
    pub fields: Vec<Field>,
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Callbacks of the wasm module that see only what is shown.
    #[serde(default)]
    pub behind: Behind,
    #[serde(default)]
    pub filters: Vec<Filter>,
    #[serde(default)]
    pub conditions: Vec<Node>,
    #[serde(default)]
    pub rest: Option<Rest>,
    /// The samples of one reading are rendered as one array.
    #[serde(default)]
    pub array: bool,
    #[serde(default)]
    pub read_from: Option<ReadFrom>,
    #[serde(default)]
    pub sort: Vec<Sort>,
    #[serde(default)]
    pub limit: Option<u64>,
    #[serde(default)]
    pub metrics: Option<Metrics>,
    /// This process makes the samples: none is lost on the way.
    #[serde(default)]
    pub pushed: bool,
    pub output: Output,
}

/// Steps that run behind filters, behind sorting, and behind the limit of an array.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behind {
    #[serde(default)]
    pub filters: Vec<Step>,
    #[serde(default)]
    pub sort: Vec<Step>,
    #[serde(default)]
    pub limit: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    #[serde(default)]
    pub keys: Vec<u32>,
    pub values: Vec<Metric>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    pub field: u32,
    #[serde(rename = "type")]
    pub kind: MetricKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// The field for the bytes behind the struct, and the field with their number.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rest {
    pub field: u32,
    #[serde(default)]
    pub length: Option<u32>,
}

/// What an array is read from: a map, which is emptied, or iterator programs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadFrom {
    #[serde(default)]
    pub map: Option<String>,
    /// False: one entry per system call, as on kernels without batches.
    #[serde(default = "yes")]
    pub batch: bool,
    #[serde(default)]
    pub programs: Vec<Iterator>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Iterator {
    pub name: String,
    /// The program shows one network namespace: that of the thread that opens the iterator.
    #[serde(default)]
    pub netns: bool,
    /// The map whose elements it walks.
    #[serde(default)]
    pub map: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sort {
    pub field: u32,
    #[serde(default)]
    pub descending: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossVar {
    pub section: String,
    pub offset: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossTable {
    pub section: String,
    pub offset: usize,
    pub size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    Char,
    Bytes,
    Str,
    Container,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub id: u32,
    pub name: String,
    pub full_name: String,
    #[serde(default)]
    pub parent: Option<u32>,
    pub kind: Kind,
    #[serde(default)]
    pub offset: usize,
    #[serde(default)]
    pub size: usize,
    #[serde(default)]
    pub count: Option<usize>,
    #[serde(default)]
    pub array: bool,
    #[serde(default)]
    pub slot: bool,
    #[serde(default)]
    pub bits: u32,
    #[serde(default)]
    pub bit_offset: u32,
    #[serde(default = "yes")]
    pub json: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    pub field: u32,
    pub op: String,
    pub value: String,
}

/// A part of a condition: `op` is applied to `args`, or to the field or the value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub op: String,
    #[serde(default)]
    pub args: Vec<Node>,
    #[serde(default)]
    pub field: Option<u32>,
    #[serde(default)]
    pub value: Option<serde_json::Value>,
}

impl Plan {
    pub fn parse(text: &str) -> Result<Plan> {
        if text.len() > MAX_PLAN {
            return Err(Error::plan(format!("the plan has more than {MAX_PLAN} bytes")));
        }
        let plan: Plan = serde_json::from_str(text)
            .map_err(|e| Error::plan(format!("the plan is not understood: {e}")))?;
        if plan.version != VERSION {
            return Err(Error::plan(format!("plan version {} is not {VERSION}", plan.version)));
        }
        Ok(plan)
    }
}
