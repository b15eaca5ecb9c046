//! What steps read and write while an event passes.

use super::time::Clock;
use crate::schema::event::{from_sample, Slot, Slots};
use crate::schema::field::Field;
use crate::schema::lookups::Lookups;
use crate::wasm::Guest;

/// The container that an element belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The container that has its namespaces now.
    #[default]
    Now,
    /// The container of this row, which [`crate::schema::lookups::Containers::hold`] keeps.
    Held(u32),
    /// Of no container that is known.
    Unknown,
}

pub struct Context<'a> {
    pub fields: &'a [Field],
    pub sample: &'a [u8],
    /// The bytes behind the sample, if the plan has a field for them.
    pub rest: &'a [u8],
    pub slots: &'a mut Slots,
    pub lookups: &'a Lookups,
    pub names: &'a [Box<str>],
    pub clock: &'a mut Clock,
    pub owner: Owner,
    /// The wasm module of the gadget.
    pub guest: Option<&'a Guest>,
    /// How many callbacks of a wasm module one after the other emitted the event.
    pub depth: u32,
    /// A step cannot show the event: it is left out.
    pub refused: bool,
}

impl Context<'_> {
    /// The integer in a field, from the sample or from a step.
    pub fn word(&self, index: usize) -> u64 {
        match self.slots.values[index] {
            Slot::Bool(b) => u64::from(b),
            Slot::Int(i) => i as u64,
            Slot::Uint(u) => u,
            _ if self.fields[index].slot => 0,
            _ => from_sample(&self.fields[index], self.sample).word(),
        }
    }
}
