//! The steps of a plan (docs/plan.md).

use std::collections::BTreeMap;

use serde::Deserialize;

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
    /// The wasm module's callback of this number.
    Wasm {
        callback: u64,
        /// 1: events, or elements; 2: arrays; 3: events, or whole arrays.
        #[serde(rename = "type")]
        kind: u32,
    },
    Container {
        #[serde(default)]
        mntns: Option<u32>,
        #[serde(default)]
        netns: Option<u32>,
        fields: BTreeMap<String, u32>,
    },
}
