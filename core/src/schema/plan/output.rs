//! What a plan says of the output (docs/plan.md).

use serde::Deserialize;

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
    /// The output is a terminal: characters that control or deceive it are escaped in JSON and in
    /// text.
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
