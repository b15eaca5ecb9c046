//! The event, or the array, of the callback that runs: lent to the host for that time only.

use std::collections::HashMap;
use std::ptr::NonNull;

use super::elements::Elements;
use super::limits;
use crate::schema::event::{Slot, Slots};
use crate::schema::lookups::Lookups;

/// What the callback of one event is given.
pub struct EventCall<'a> {
    pub sample: &'a [u8],
    pub rest: &'a [u8],
    pub slots: &'a mut Slots,
    pub lookups: &'a Lookups,
    pub names: &'a [Box<str>],
}

/// What the callback of one array is given.
pub struct ArrayCall<'a> {
    pub elements: &'a mut Elements,
    pub lookups: &'a Lookups,
    pub names: &'a [Box<str>],
}

enum Data {
    Event { sample: NonNull<[u8]>, rest: NonNull<[u8]>, slots: NonNull<Slots> },
    Array(NonNull<Elements>),
}

/// Data of the pipeline while a callback runs, and what the module changed of it.
pub struct Live {
    pub source: usize,
    data: Data,
    lookups: NonNull<Lookups>,
    names: NonNull<[Box<str>]>,
    /// What slots had, by element and field.
    changed: HashMap<(usize, usize), Slot>,
    /// Length of the text of an event, or of an array, before the callback.
    before: usize,
    /// Bytes that the module has added.
    added: usize,
}

// SAFETY: the pointers are used by the thread that lent them, while it waits for the callback.
unsafe impl Send for Live {}

/// One element of live data: what a field's value is read from.
pub struct LiveElement<'a> {
    pub sample: &'a [u8],
    pub rest: &'a [u8],
    pub slots: &'a Slots,
    pub lookups: &'a Lookups,
    pub names: &'a [Box<str>],
}

impl Live {
    /// # Safety
    /// The value must be dropped before `call` ends, and `call` not be used meanwhile.
    pub unsafe fn event(source: usize, call: &mut EventCall<'_>) -> Live {
        let before = call.slots.text.len();
        let data = Data::Event {
            sample: NonNull::from(call.sample),
            rest: NonNull::from(call.rest),
            slots: NonNull::from(&mut *call.slots),
        };
        let (lookups, names) = (NonNull::from(call.lookups), NonNull::from(call.names));
        Live { source, data, lookups, names, changed: HashMap::new(), before, added: 0 }
    }

    /// # Safety
    /// The value must be dropped before `call` ends, and `call` not be used meanwhile.
    pub unsafe fn array(source: usize, call: &mut ArrayCall<'_>) -> Live {
        let before = call.elements.len();
        let data = Data::Array(NonNull::from(&mut *call.elements));
        let (lookups, names) = (NonNull::from(call.lookups), NonNull::from(call.names));
        Live { source, data, lookups, names, changed: HashMap::new(), before, added: 0 }
    }

    pub fn is_array(&self) -> bool {
        matches!(self.data, Data::Array(_))
    }

    fn elements(&mut self) -> Option<&mut Elements> {
        match &mut self.data {
            // SAFETY: lent for as long as this value lives.
            Data::Array(elements) => Some(unsafe { elements.as_mut() }),
            Data::Event { .. } => None,
        }
    }

    pub fn len(&self) -> usize {
        match &self.data {
            // SAFETY: lent for as long as this value lives.
            Data::Array(elements) => unsafe { elements.as_ref() }.len(),
            Data::Event { .. } => 1,
        }
    }

    /// Appends an element that the module made; false when there is no room.
    pub fn append(&mut self, slots: Slots) -> bool {
        let bytes = slots.bytes() + self.elements().map_or(0, |e| e.cost(0));
        if !self.has_room(bytes) {
            return false;
        }
        let Some(elements) = self.elements() else { return false };
        elements.push_zeros(slots);
        true
    }

    /// Counts bytes that are about to be added; false when they are too many.
    pub fn has_room(&mut self, bytes: usize) -> bool {
        self.added = self.added.saturating_add(bytes);
        self.added <= limits::HELD
    }

    /// Element `index`; an event is element 0.
    pub fn element(&self, index: usize) -> Option<LiveElement<'_>> {
        // SAFETY: lent for as long as this value lives; nothing else uses it meanwhile.
        unsafe {
            let (lookups, names) = (self.lookups.as_ref(), self.names.as_ref());
            match &self.data {
                Data::Event { sample, rest, slots } if index == 0 => Some(LiveElement {
                    sample: sample.as_ref(),
                    rest: rest.as_ref(),
                    slots: slots.as_ref(),
                    lookups,
                    names,
                }),
                Data::Event { .. } => None,
                Data::Array(elements) => {
                    let elements = elements.as_ref();
                    let slots = elements.slots.get(index)?;
                    let sample = elements.sample(index);
                    Some(LiveElement { sample, rest: &[], slots, lookups, names })
                }
            }
        }
    }

    /// The slots of element `index`, of which field `field` is going to be set.
    pub fn change(&mut self, index: usize, field: usize) -> Option<&mut Slots> {
        let slots = match &mut self.data {
            // SAFETY: as above; `&mut self` makes it the only use.
            Data::Event { slots, .. } if index == 0 => unsafe { slots.as_mut() },
            Data::Event { .. } => return None,
            // SAFETY: as above.
            Data::Array(elements) => unsafe { elements.as_mut() }.slots.get_mut(index)?,
        };
        let old = *slots.values.get(field)?;
        self.changed.entry((index, field)).or_insert(old);
        Some(slots)
    }

    /// Takes back all that the module changed: it failed.
    pub fn undo(&mut self) {
        let (before, changed) = (self.before, std::mem::take(&mut self.changed));
        for ((index, field), slot) in changed {
            let slots = match &mut self.data {
                // SAFETY: as above.
                Data::Event { slots, .. } => unsafe { slots.as_mut() },
                // SAFETY: as above.
                Data::Array(elements) => &mut unsafe { elements.as_mut() }.slots[index],
            };
            slots.values[field] = slot;
        }
        match &mut self.data {
            // SAFETY: as above.
            Data::Event { slots, .. } => unsafe { slots.as_mut() }.text.truncate(before),
            // SAFETY: as above.
            Data::Array(elements) => unsafe { elements.as_mut() }.truncate(before),
        }
    }
}
