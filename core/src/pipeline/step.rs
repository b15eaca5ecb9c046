//! Steps: what operators do to each event, compiled from the plan.

use super::steps::context::{Context, Owner};
use super::steps::input::StepInput;
use super::steps::layout::Layout;
use super::steps::stack::{KernelStack, UserStack};
use super::steps::{duration, enums, files, net};
use crate::errors::{Error, Result};
use crate::names;
use crate::schema::event::{from_sample, Slot, Value};
use crate::schema::field::{width, Fields};
use crate::schema::lookups::{Lookups, Match};
use crate::schema::plan::{self, Kind, Pair};
use crate::wasm::{EventCall, Guest, SubscriptionKind};

const MAX_STEPS: usize = 1024;
const MAX_ENUM_VALUES: usize = 65536;

pub enum Step {
    Timestamp {
        src: usize,
        dst: Option<usize>,
        layout: Layout,
    },
    Errno(usize, usize),
    Signal(usize, usize),
    User(usize, usize),
    Group(usize, usize),
    Bytes(usize, usize),
    Duration(usize, usize),
    FileMode(usize, usize),
    FileFlags(usize, usize),
    Syscall(usize, usize),
    Enum {
        src: usize,
        dst: usize,
        table: enums::Table,
    },
    /// The same text for each event, by its index among the texts.
    Text {
        dst: usize,
        text: u32,
    },
    Endpoint(Endpoint),
    KernelStack(KernelStack),
    UserStack(Box<UserStack>),
    Container {
        mntns: Option<usize>,
        netns: Option<usize>,
        fields: Vec<ContainerField>,
    },
    /// Fields of the container that was found.
    ContainerFields(Vec<ContainerField>),
    Wasm(Callback),
}

/// A callback of the gadget's wasm module.
#[derive(Clone, Copy)]
pub struct Callback {
    pub id: u64,
    /// Index of the data source in the module's model.
    pub source: usize,
    pub kind: SubscriptionKind,
}

pub struct Endpoint {
    version: usize,
    /// Offset of the 16 address bytes in the sample.
    addr_raw: usize,
    addr: usize,
    port: Option<usize>,
    proto: Option<(usize, usize)>,
    endpoint: Option<usize>,
}

pub struct ContainerField {
    column: u32,
    pub field: usize,
    /// The field is also written when only the pod is known.
    of_pod: bool,
    /// The field is written only when the container was found by its mount namespace.
    by_mntns: bool,
}

pub fn compile(
    plans: &[plan::Step],
    fields: &mut Fields,
    lookups: &mut Lookups,
    texts: &mut Vec<Box<str>>,
    guest: Option<&Guest>,
) -> Result<Vec<Step>> {
    if plans.len() > MAX_STEPS {
        return Err(Error::plan(format!("{} steps, at most {MAX_STEPS}", plans.len())));
    }
    plans.iter().map(|p| compile_one(p, fields, lookups, texts, guest)).collect()
}

fn pair(fields: &Fields, p: &Pair, role: &str) -> Result<(usize, usize)> {
    Ok((fields.integer(p.src, role)?, fields.text_slot(p.dst, role)?))
}

fn compile_one(
    plan: &plan::Step,
    fields: &mut Fields,
    lookups: &mut Lookups,
    texts: &mut Vec<Box<str>>,
    guest: Option<&Guest>,
) -> Result<Step> {
    let two = |p: &Pair, role: &str| pair(fields, p, role);
    Ok(match plan {
        plan::Step::Timestamp { src, dst, layout } => {
            let src = fields.integer(*src, "step timestamp")?;
            if width(fields.list[src].kind) != Some(8) || fields.list[src].bits.is_some() {
                return Err(Error::plan(format!(
                    "step timestamp: field {} has no 8 bytes",
                    fields.list[src].full_name
                )));
            }
            let dst = dst.map(|d| fields.text_slot(d, "step timestamp")).transpose()?;
            fields.list[src].patched = true;
            let layout = Layout::parse(layout.as_deref())?;
            Step::Timestamp { src, dst, layout }
        }
        plan::Step::Errno(p) => two(p, "step errno").map(|(s, d)| Step::Errno(s, d))?,
        plan::Step::Signal(p) => two(p, "step signal").map(|(s, d)| Step::Signal(s, d))?,
        plan::Step::User(p) => two(p, "step user").map(|(s, d)| Step::User(s, d))?,
        plan::Step::Group(p) => two(p, "step group").map(|(s, d)| Step::Group(s, d))?,
        plan::Step::Bytes(p) => two(p, "step bytes").map(|(s, d)| Step::Bytes(s, d))?,
        plan::Step::Duration(p) => two(p, "step duration").map(|(s, d)| Step::Duration(s, d))?,
        plan::Step::FileMode(p) => two(p, "step file_mode").map(|(s, d)| Step::FileMode(s, d))?,
        plan::Step::FileFlags(p) => {
            two(p, "step file_flags").map(|(s, d)| Step::FileFlags(s, d))?
        }
        plan::Step::Syscall(p) => two(p, "step syscall").map(|(s, d)| Step::Syscall(s, d))?,
        plan::Step::Enum { src, dst, values, set, separator } => {
            if values.len() > MAX_ENUM_VALUES {
                return Err(Error::plan(format!(
                    "step enum: {} values, at most {MAX_ENUM_VALUES}",
                    values.len()
                )));
            }
            let src = fields.integer(*src, "step enum")?;
            let dst = fields.text_slot(*dst, "step enum")?;
            let separator = separator.as_deref().unwrap_or("|");
            let table = enums::Table::compile(values, *set, separator, texts)?;
            Step::Enum { src, dst, table }
        }
        plan::Step::Text { dst, value } => {
            let dst = fields.text_slot(*dst, "step text")?;
            let text = texts.len() as u32;
            texts.push(value.as_str().into());
            Step::Text { dst, text }
        }
        plan::Step::L3endpoint { version, addr_raw, addr } => Step::Endpoint(Endpoint {
            version: fields.integer(*version, "step l3endpoint")?,
            addr_raw: fields.place(*addr_raw, "step l3endpoint", net::ADDRESS)?,
            addr: fields.text_slot(*addr, "step l3endpoint")?,
            port: None,
            proto: None,
            endpoint: None,
        }),
        plan::Step::L4endpoint { version, addr_raw, addr, port, proto_raw, proto, endpoint } => {
            let role = "step l4endpoint";
            let proto = match (proto_raw, proto) {
                (Some(raw), Some(text)) => {
                    Some((fields.integer(*raw, role)?, fields.text_slot(*text, role)?))
                }
                (None, None) => None,
                _ => return Err(Error::plan(format!("{role}: proto_raw and proto go together"))),
            };
            Step::Endpoint(Endpoint {
                version: fields.integer(*version, role)?,
                addr_raw: fields.place(*addr_raw, role, net::ADDRESS)?,
                addr: fields.text_slot(*addr, role)?,
                port: Some(fields.integer(*port, role)?),
                proto,
                endpoint: endpoint.map(|e| fields.text_slot(e, role)).transpose()?,
            })
        }
        plan::Step::KernelStack(p) => Step::KernelStack(KernelStack::compile(p, fields, lookups)?),
        plan::Step::UserStack(p) => Step::UserStack(UserStack::compile(p, fields, lookups)?.into()),
        plan::Step::Wasm { callback, kind } => {
            Step::Wasm(Callback::compile(*callback, *kind, fields, guest)?)
        }
        plan::Step::Container { mntns, netns, fields: wanted } => {
            let role = "step container";
            let integer = |id: &Option<u32>| id.map(|i| fields.integer(i, role)).transpose();
            let fields = wanted
                .iter()
                .map(|(name, id)| {
                    Ok(ContainerField {
                        column: lookups.containers.column(name),
                        field: fields.any_slot(*id, role)?,
                        of_pod: name != "runtime.containerPid",
                        by_mntns: name == "k8s.hostnetwork",
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            Step::Container { mntns: integer(mntns)?, netns: integer(netns)?, fields }
        }
    })
}

impl Callback {
    pub fn compile(id: u64, kind: u32, fields: &Fields, guest: Option<&Guest>) -> Result<Callback> {
        let bad = |why: String| Error::plan(format!("step wasm: {why}"));
        let guest = guest.ok_or_else(|| bad("there is no module".into()))?;
        let name = fields.datasource();
        let source = guest
            .source(name)
            .ok_or_else(|| bad(format!("the module does not know data source {name}")))?;
        let kind = SubscriptionKind::of(kind).ok_or_else(|| bad(format!("type {kind}")))?;
        Ok(Callback { id, source, kind })
    }
}

impl Step {
    /// The callback for whole arrays.
    pub fn of_array(&self) -> Option<Callback> {
        match self {
            Step::Wasm(c) if c.kind != SubscriptionKind::Data => Some(*c),
            _ => None,
        }
    }

    /// The field with the mount namespace by which containers are found.
    pub fn mntns(&self) -> Option<usize> {
        match self {
            Step::Container { mntns, .. } => *mntns,
            _ => None,
        }
    }

    /// Calls `sink` with each field that the step fills, and with what its value is made of.
    pub fn outputs(&self, sink: &mut dyn FnMut(usize, StepInput)) {
        match self {
            Step::Errno(src, dst)
            | Step::Signal(src, dst)
            | Step::User(src, dst)
            | Step::Group(src, dst)
            | Step::Bytes(src, dst)
            | Step::Duration(src, dst)
            | Step::FileMode(src, dst)
            | Step::FileFlags(src, dst)
            | Step::Syscall(src, dst)
            | Step::Enum { src, dst, .. } => sink(*dst, StepInput::Field(*src)),
            Step::Container { fields, .. } | Step::ContainerFields(fields) => {
                fields.iter().for_each(|f| sink(f.field, StepInput::Container));
            }
            Step::Timestamp { src, dst, .. } => {
                [Some(*src), *dst].into_iter().flatten().for_each(|i| sink(i, StepInput::Other));
            }
            Step::Endpoint(e) => {
                let proto = e.proto.map(|(_, text)| text);
                let all = [Some(e.addr), proto, e.endpoint];
                all.into_iter().flatten().for_each(|i| sink(i, StepInput::Other));
            }
            Step::Text { dst, .. } => sink(*dst, StepInput::Other),
            // The fields that it may set are marked as patched.
            Step::Wasm(_) => {}
            Step::KernelStack(s) => sink(s.output(), StepInput::Other),
            Step::UserStack(s) => s.outputs().for_each(|i| sink(i, StepInput::Other)),
        }
    }

    /// The field with the time that text field `index` shows.
    pub fn time_of(&self, index: usize) -> Option<usize> {
        match self {
            Step::Timestamp { src, dst, .. } if *dst == Some(index) => Some(*src),
            _ => None,
        }
    }

    pub fn run(&self, cx: &mut Context<'_>) {
        match self {
            Step::Timestamp { src, dst, layout } => {
                let boot = cx.word(*src);
                let wall = cx.clock.wall(boot, cx.lookups.clock.offset_ns());
                cx.slots.values[*src] = match cx.fields[*src].kind {
                    Kind::I64 => Slot::Int(wall),
                    _ => Slot::Uint(wall as u64),
                };
                if let Some(dst) = dst {
                    let zone = cx.lookups.zone;
                    let clock = &mut *cx.clock;
                    cx.slots.write_text(*dst, |out| clock.format(wall, zone, layout, out));
                }
            }
            Step::Errno(src, dst) => named(cx, *src, *dst, names::errno, "error#"),
            Step::Signal(src, dst) => named(cx, *src, *dst, names::signal, "signal#"),
            Step::Syscall(src, dst) => {
                cx.slots.values[*dst] = Slot::Static(names::syscall(cx.word(*src)));
            }
            Step::User(src, dst) => owner(cx, *src, *dst, true),
            Step::Group(src, dst) => owner(cx, *src, *dst, false),
            Step::Bytes(src, dst) => {
                let n = cx.word(*src);
                cx.slots.write_text(*dst, |out| duration::bytes(n, out));
            }
            Step::Duration(src, dst) => {
                let n = cx.word(*src);
                cx.slots.write_text(*dst, |out| duration::duration(n, out));
            }
            Step::FileMode(src, dst) => {
                let mode = cx.word(*src) as u32;
                cx.slots.write_text(*dst, |out| files::mode(mode, out));
            }
            Step::FileFlags(src, dst) => {
                let flags = cx.word(*src) as u32;
                cx.slots.write_text(*dst, |out| files::flags(flags, out));
            }
            Step::Enum { src, dst, table } => {
                let value = cx.word(*src);
                let texts = cx.names;
                match table.lookup(value) {
                    enums::Found::One(slot) => cx.slots.values[*dst] = slot,
                    enums::Found::Set => {
                        cx.slots.write_text(*dst, |out| table.write_set(value, texts, out));
                    }
                }
            }
            Step::Text { dst, text } => cx.slots.values[*dst] = Slot::Named(*text),
            Step::Endpoint(e) => e.run(cx),
            Step::KernelStack(s) => s.run(cx),
            Step::UserStack(s) => s.run(cx),
            Step::Wasm(callback) => {
                // As in `ig`, no later subscriber gets an event that a step has refused.
                if let Some(guest) = cx.guest.filter(|_| !cx.refused) {
                    let mut call = EventCall {
                        sample: cx.sample,
                        rest: cx.rest,
                        slots: &mut *cx.slots,
                        lookups: cx.lookups,
                        names: cx.names,
                    };
                    guest.event(callback.id, callback.source, cx.depth, &mut call);
                }
            }
            Step::Container { mntns, netns, fields } => {
                let mntns = mntns.map(|i| cx.word(i));
                let netns = netns.map(|i| cx.word(i));
                let containers = &cx.lookups.containers;
                let (found, by_mntns) = match cx.owner {
                    Owner::Now => {
                        let by_mntns = mntns.is_some_and(|m| containers.knows(m));
                        (containers.find(mntns, netns), by_mntns)
                    }
                    Owner::Held(row) => (Some(Match::Full(row)), true),
                    Owner::Unknown => (None, false),
                };
                let (row, whole) = match found {
                    None => return,
                    Some(Match::Full(row)) => (row, true),
                    Some(Match::Pod(row)) => (row, false),
                };
                let extent = u64::from(whole) << 1 | u64::from(by_mntns);
                cx.slots.container = u64::from(row) << 2 | extent | 1 << 63;
                fill(cx, fields);
            }
            Step::ContainerFields(fields) => {
                // As an earlier event may have left them.
                fields.iter().for_each(|f| cx.slots.values[f.field] = Slot::Empty);
                fill(cx, fields);
            }
        }
    }
}

/// Fills fields of the container that was found, if one was.
fn fill(cx: &mut Context<'_>, fields: &[ContainerField]) {
    let found = cx.slots.container;
    let (row, whole, by_mntns) = ((found >> 2) as u32, found & 2 != 0, found & 1 != 0);
    for f in fields {
        if found != 0 && (whole || f.of_pod) && (by_mntns || !f.by_mntns) {
            cx.slots.values[f.field] = Slot::Container(row, f.column);
        }
    }
}

/// Writes the name of a number, or the prefix and the number. errno 0 has the empty name.
fn named(
    cx: &mut Context<'_>,
    src: usize,
    dst: usize,
    lookup: fn(u64) -> Option<&'static str>,
    prefix: &str,
) {
    let n = cx.word(src);
    match lookup(n) {
        Some(name) => cx.slots.values[dst] = Slot::Static(name),
        None => {
            let signed = matches!(from_sample(&cx.fields[src], cx.sample), Value::Int(_));
            cx.slots.write_text(dst, |out| {
                out.extend_from_slice(prefix.as_bytes());
                if signed {
                    out.extend_from_slice(itoa::Buffer::new().format(n as i64).as_bytes());
                } else {
                    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
                }
            });
        }
    }
}

fn owner(cx: &mut Context<'_>, src: usize, dst: usize, user: bool) {
    let id = cx.word(src) as u32;
    let (table, prefix) =
        if user { (&cx.lookups.users, "uid:") } else { (&cx.lookups.groups, "gid:") };
    let known = table.get(&id);
    cx.slots.write_text(dst, |out| match known {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => {
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
        }
    });
}

impl Endpoint {
    fn run(&self, cx: &mut Context<'_>) {
        let version = cx.word(self.version);
        let raw = cx.sample.get(self.addr_raw..self.addr_raw + net::ADDRESS).unwrap_or_default();
        if !net::is_version(version) {
            cx.refused = true;
            return;
        }
        cx.slots.write_text(self.addr, |out| net::address(version, raw, out));
        if let Some((raw, text)) = self.proto {
            let number = cx.word(raw);
            match names::protocol(number) {
                Some(name) => cx.slots.values[text] = Slot::Static(name),
                None => cx.slots.write_text(text, |out| {
                    out.extend_from_slice(b"proto#");
                    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                }),
            }
        }
        if let (Some(endpoint), Some(port)) = (self.endpoint, self.port) {
            let port = cx.word(port);
            cx.slots.write_text(endpoint, |out| {
                net::address(version, raw, out);
                out.push(b':');
                out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
            });
        }
    }
}
