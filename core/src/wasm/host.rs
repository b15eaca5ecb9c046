//! What the host holds for one module, beside its store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use wasmi::{Memory, StoreLimits};

use super::data::{self, Given};
use super::handles::{self, Handle, Handles};
use super::kallsyms::Symbols;
use super::limits;
use super::live::{Live, LiveElement};
use super::log::Log;
use super::map_room::Inner;
use super::model::Model;
use super::outbox::{Outbox, Packet};
use super::syscalls::Declarations;
use super::work::Work;
use crate::bpf::map::Map;
use crate::schema::event::{Slot, Slots};
use crate::schema::lookups::Lookups;

pub struct Host {
    pub limits: StoreLimits,
    pub memory: Option<Memory>,
    /// When the call that runs has to be done.
    pub deadline: Instant,
    pub work: Work,
    pub log: Log,
    pub model: Model,
    pub handles: Handles,
    pub live: Option<Live>,
    pub outbox: Outbox,
    /// Callbacks that emitted what the call that runs is about.
    pub depth: u32,
    /// Bytes of the packets that it holds or has emitted.
    pub held: usize,
    pub params: HashMap<String, String>,
    pub has_callback: bool,
    /// Maps of the gadget's object, by name.
    pub maps: HashMap<String, Arc<Map>>,
    pub inner_maps: Inner,
    /// Mount namespaces whose events are wanted; None: those of all.
    pub filter: Option<Map>,
    pub symbols: Symbols,
    pub declarations: Declarations,
    /// The end of what it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// For packets, whose values need none.
    lookups: Lookups,
}

pub type Said<T> = Result<T, String>;

/// Where a data handle leads.
enum Place {
    Live(usize),
    Packet(u32, usize),
    Element(u32),
}

impl Host {
    pub fn new(log_level: u32, params: HashMap<String, String>) -> Host {
        Host {
            limits: limits::store_limits(),
            memory: None,
            deadline: Instant::now(),
            work: Work::new(),
            log: Log::new(log_level),
            model: Model::default(),
            handles: Handles::default(),
            live: None,
            outbox: Outbox::default(),
            depth: 0,
            held: 0,
            params,
            has_callback: false,
            maps: HashMap::new(),
            inner_maps: Inner::default(),
            filter: None,
            symbols: Symbols::default(),
            declarations: Declarations::default(),
            stderr: Vec::new(),
            lookups: Lookups::default(),
        }
    }

    /// `value` of a host function's work; its failure is logged, and the result is `otherwise`.
    pub fn answer<T>(&mut self, function: &str, work: Said<T>, otherwise: T) -> T {
        work.unwrap_or_else(|why| {
            self.log.refuse(function, &why);
            otherwise
        })
    }

    /// 0, or 1 after a failure.
    pub fn status(&mut self, function: &str, work: Said<()>) -> u32 {
        self.answer(function, work.map(|()| 0), 1)
    }

    fn place(&self, data: u32) -> Said<Place> {
        if let Some((array, index)) = handles::of_element(data) {
            return match self.handles.get(array)? {
                Handle::Live if self.live.as_ref().is_some_and(Live::is_array) => {
                    Ok(Place::Live(index))
                }
                Handle::Packet(packet) if packet.array => Ok(Place::Packet(array, index)),
                _ => Err(handles::WRONG.into()),
            };
        }
        match self.handles.get(data)? {
            Handle::Live if self.live.as_ref().is_some_and(|l| !l.is_array()) => Ok(Place::Live(0)),
            Handle::Packet(packet) if !packet.array => Ok(Place::Packet(data, 0)),
            Handle::Element(..) => Ok(Place::Element(data)),
            _ => Err(handles::WRONG.into()),
        }
    }

    /// Reads a field of the event, element or packet that `data` names.
    pub fn read<T>(&self, field: u32, data: u32, with: impl FnOnce(&[u8]) -> T) -> Said<T> {
        let (source, index) = self.handles.field(field)?;
        let declared = self.field(source, index)?;
        let gone = "an element that is not there";
        let lookups = &self.lookups;
        let own = |slots| LiveElement { sample: &[], rest: &[], slots, lookups, names: &[] };
        let (of, element) = match self.place(data)? {
            Place::Live(element) => {
                let live = self.live.as_ref().ok_or(gone)?;
                (live.source, live.element(element).ok_or(gone)?)
            }
            Place::Packet(handle, element) => match self.handles.get(handle)? {
                Handle::Packet(p) => (p.source, own(p.elements.get(element).ok_or(gone)?)),
                _ => return Err(handles::WRONG.into()),
            },
            Place::Element(handle) => match self.handles.get(handle)? {
                Handle::Element(source, slots) => (*source, own(slots)),
                _ => return Err(handles::WRONG.into()),
            },
        };
        if of != source {
            return Err(OTHER.into());
        }
        Ok(data::read(&element, index, declared, self.model.sources[source].pushed, with))
    }

    fn field(&self, source: usize, index: usize) -> Said<&crate::schema::field::Field> {
        let found = self.model.sources.get(source).and_then(|s| s.fields.get(index));
        found.ok_or_else(|| "a field that is not there".into())
    }

    /// Sets a field of the event, element or packet that `data` names.
    pub fn set(&mut self, field: u32, data: u32, given: &Given<'_>) -> Said<()> {
        let (source, index) = self.handles.field(field)?;
        if !self.model.is_settable(source, index) {
            return Err("fields to set are looked up in gadgetInit or gadgetPreStart".into());
        }
        let place = self.place(data)?;
        let gone = "an element that is not there";
        let Host { model, handles, live, held, .. } = self;
        let declared = model.sources[source].fields.get(index).ok_or("no such field")?;
        let (of, slots) = match place {
            Place::Live(element) => {
                let live = live.as_mut().ok_or(gone)?;
                let bytes = if let Given::Bytes(bytes) = given { bytes.len() } else { 0 };
                if !live.has_room(bytes) {
                    return Err("more text than one call may set".into());
                }
                (live.source, live.change(element, index).ok_or(gone)?)
            }
            Place::Packet(handle, element) => match handles.get_mut(handle)? {
                Handle::Packet(p) => (p.source, p.elements.get_mut(element).ok_or(gone)?),
                _ => return Err(handles::WRONG.into()),
            },
            Place::Element(handle) => match handles.get_mut(handle)? {
                Handle::Element(source, slots) => (*source, &mut **slots),
                _ => return Err(handles::WRONG.into()),
            },
        };
        if of != source {
            return Err(OTHER.into());
        }
        let before = slots.text.len();
        if !matches!(place, Place::Live(_)) {
            if let Given::Bytes(bytes) = given {
                if *held + bytes.len() > limits::HELD {
                    return Err(FULL.into());
                }
            }
        }
        let result = data::set(slots, index, declared, given);
        if !matches!(place, Place::Live(_)) {
            *held += slots.text.len() - before;
        }
        Ok(result?)
    }

    /// Slots for a new packet or element of a data source.
    pub fn new_slots(&mut self, source: usize) -> Said<Slots> {
        let fields = self.model.sources[source].fields.len();
        let slots = Slots { values: vec![Slot::Empty; fields], ..Slots::default() };
        if self.held + slots.bytes() > limits::HELD {
            return Err(FULL.into());
        }
        self.held += slots.bytes();
        Ok(slots)
    }

    pub fn add_handle(&mut self, handle: Handle) -> Said<u32> {
        Ok(self.handles.add(handle)?)
    }

    /// Closes a handle; what it held is freed.
    pub fn remove_handle(&mut self, number: u32) -> Said<Handle> {
        let removed = self.handles.remove(number)?;
        let bytes = match &removed {
            Handle::Packet(packet) => packet.bytes(),
            Handle::Element(_, slots) => slots.bytes(),
            _ => 0,
        };
        self.held = self.held.saturating_sub(bytes);
        Ok(removed)
    }

    /// Puts a packet into the outbox.
    pub fn emit(&mut self, packet: Packet) -> Said<()> {
        if packet.depth > limits::EMIT_DEPTH {
            return Err("callbacks emit in a circle".into());
        }
        let bytes = packet.bytes();
        if self.held + bytes > limits::HELD {
            return Err(FULL.into());
        }
        self.held += bytes;
        self.outbox.push(packet);
        Ok(())
    }

    pub fn take_emitted(&mut self) -> Option<Packet> {
        let packet = self.outbox.pop()?;
        self.held = self.held.saturating_sub(packet.bytes());
        Some(packet)
    }
}

const OTHER: &str = "the field and the data are of different data sources";
pub const FULL: &str = "the module holds too much data";
