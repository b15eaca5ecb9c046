//! Packets that the gadget's wasm module made.

use super::{DataSource, Rendered};
use crate::pipeline::steps::context::Owner;
use crate::pipeline::whole::Whole;
use crate::schema::event::{Slot, Slots};
use crate::schema::lookups::Lookups;
use crate::wasm::Packet;

impl DataSource {
    /// Processes a packet; of an array, returns what was rendered.
    pub fn emitted(&mut self, lookups: &Lookups, packet: Packet) -> Option<Rendered> {
        let array = self.array.is_some();
        if self.is_open() {
            self.counts.received += packet.elements.len() as u64;
            self.counts.overflow += packet.elements.len() as u64;
            return None;
        }
        self.depth = packet.depth;
        let zeros = vec![0; self.sample_size];
        if array {
            // What the module made cannot be made again, so as to sort it.
            self.whole.get_or_insert_with(|| Whole::new(self.sample_size));
            self.begin();
        }
        for mut slots in packet.elements {
            slots.values.resize(self.fields.list.len(), Slot::Empty);
            self.counts.received += 1;
            self.filled(lookups, &zeros, slots);
        }
        let rendered = array.then(|| self.finish(lookups));
        self.depth = 0;
        rendered
    }

    fn filled(&mut self, lookups: &Lookups, sample: &[u8], slots: Slots) {
        if self.whole.is_some() {
            return self.keep_element(sample, slots, Owner::Now);
        }
        self.slots = slots;
        if !self.decide(lookups, sample, &[], Owner::Now, true) {
            self.counts.discarded += 1;
        } else {
            self.render(lookups, sample, &[]);
        }
    }
}
