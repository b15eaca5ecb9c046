//! The plan document as Python writes it (docs/plan.md).

use serde::Deserialize;

use crate::errors::{Error, Result};

pub const VERSION: u32 = 1;
const MAX_PLAN: usize = 32 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub version: u32,
    #[serde(default)]
    pub clock_offset_ns: i64,
    #[serde(default)]
    pub timezone_offset_s: i32,
    /// The proc file system in which processes are found, and its pid namespace (0: not known).
    #[serde(default = "proc_root")]
    pub proc: String,
    #[serde(default)]
    pub pidns: u64,
    #[serde(default)]
    pub symbols: Symbols,
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
    pub perf_bytes: Option<usize>,
    pub sample_size: usize,
    #[serde(default)]
    pub min_size: usize,
    #[serde(default)]
    pub keep: bool,
    pub fields: Vec<Field>,
    #[serde(default)]
    pub steps: Vec<Step>,
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
pub struct Pair {
    pub src: u32,
    pub dst: u32,
}

#[derive(Deserialize)]
pub struct KernelStack {
    pub src: u32,
    pub dst: u32,
    pub map: String,
}

#[derive(Deserialize)]
pub struct UserStack {
    pub members: StackFields,
    pub map: String,
    #[serde(default)]
    pub build_id_map: Option<String>,
    #[serde(default)]
    pub addresses: Option<u32>,
    #[serde(default)]
    pub buildid: Option<u32>,
    #[serde(default)]
    pub symbols: Option<u32>,
}

/// Fields of `struct gadget_user_stack`.
#[derive(Deserialize)]
pub struct StackFields {
    pub stack_id: u32,
    pub major: u32,
    pub minor: u32,
    pub inode: u32,
    pub mtime_sec: u32,
    pub mtime_nsec: u32,
    pub base_addr_hash: u32,
    pub tgid_level0: u32,
    pub pid_level0: u32,
    pub pidns_level0: u32,
    pub pid_level1: u32,
    pub pidns_level1: u32,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Step {
    Timestamp {
        src: u32,
        #[serde(default)]
        dst: Option<u32>,
        #[serde(default)]
        layout: Option<String>,
    },
    Errno(Pair),
    Signal(Pair),
    User(Pair),
    Group(Pair),
    Bytes(Pair),
    Duration(Pair),
    FileMode(Pair),
    FileFlags(Pair),
    Syscall(Pair),
    Enum {
        src: u32,
        dst: u32,
        values: Vec<(serde_json::Number, String)>,
        #[serde(default)]
        set: bool,
        #[serde(default)]
        separator: Option<String>,
    },
    Text {
        dst: u32,
        value: String,
    },
    L3endpoint {
        version: u32,
        addr_raw: u32,
        addr: u32,
    },
    L4endpoint {
        version: u32,
        addr_raw: u32,
        addr: u32,
        port: u32,
        #[serde(default)]
        proto_raw: Option<u32>,
        #[serde(default)]
        proto: Option<u32>,
        #[serde(default)]
        endpoint: Option<u32>,
    },
    KernelStack(KernelStack),
    UserStack(Box<UserStack>),
    Container {
        #[serde(default)]
        mntns: Option<u32>,
        #[serde(default)]
        netns: Option<u32>,
        fields: std::collections::BTreeMap<String, u32>,
    },
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    None,
    Json,
    Jsonpretty,
    Yaml,
    Columns,
    /// The text fields, unchanged.
    Text,
    #[serde(rename = "pcap-ng")]
    Pcapng,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    pub mode: Mode,
    /// The output is a terminal: characters that control or deceive it are escaped in JSON.
    #[serde(default)]
    pub terminal: bool,
    #[serde(default)]
    pub columns: Vec<Column>,
    /// Written before the rows of each array, and before each text.
    #[serde(default)]
    pub header: String,
    #[serde(default)]
    pub capture: Option<Capture>,
}

/// Fields of a packet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    pub payload: u32,
    pub timestamp: u32,
    pub length: u32,
    /// The fields by which interfaces differ, in the order of their description.
    #[serde(default)]
    pub interfaces: Vec<InterfacePart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfacePart {
    pub field: u32,
    pub name: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Align {
    #[default]
    Left,
    Right,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ellipsis {
    End,
    Start,
    Middle,
    #[default]
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub field: u32,
    pub width: i64,
    #[serde(default)]
    pub align: Align,
    #[serde(default)]
    pub ellipsis: Ellipsis,
    #[serde(default)]
    pub hex: bool,
    #[serde(default)]
    pub precision: usize,
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
