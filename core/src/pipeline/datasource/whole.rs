//! Arrays with callbacks of a wasm module: a callback may be given all elements, and add some. So the
//! elements are collected with what steps add to them, and the steps go over all of them, one after
//! the other.

use super::DataSource;
use crate::pipeline::array::MAX_UNSORTED;
use crate::pipeline::steps::context::{Context, Owner};
use crate::pipeline::whole::Whole;
use crate::schema::event::{Event, Slots};
use crate::schema::lookups::Lookups;
use crate::wasm::{ArrayCall, Elements};

impl DataSource {
    /// Keeps an element until the array is finished.
    pub(super) fn collect(&mut self, lookups: &Lookups, sample: &[u8], owner: Owner) {
        let fields = self.fields.list.len();
        let mut slots = std::mem::take(&mut self.slots);
        slots.reset(fields, &self.filled);
        self.slots = slots;
        if !self.passes_early(lookups, sample, &[]) {
            self.counts.discarded += 1;
            return;
        }
        let slots = std::mem::take(&mut self.slots);
        self.keep_element(sample, slots, owner);
    }

    /// As [`DataSource::collect`], with slots that have values already.
    pub(super) fn keep_element(&mut self, sample: &[u8], slots: Slots, owner: Owner) {
        let fields = self.fields.list.len();
        let Some(whole) = &mut self.whole else { return };
        if (whole.elements.len() + 1) * whole.elements.cost(fields) > MAX_UNSORTED {
            self.counts.overflow += 1;
            return;
        }
        whole.elements.push(sample, slots);
        whole.owners.push(owner);
    }

    /// Runs the steps over the elements, and renders them.
    pub(super) fn finish_whole(&mut self, lookups: &Lookups) {
        let Some((mut elements, mut owners)) = self.whole.as_mut().map(Whole::take) else { return };
        let mut refused = vec![false; elements.len()];
        for step in &self.steps {
            if let (Some(callback), Some(guest)) = (step.of_array(), &self.guest) {
                let names = &self.names;
                let mut call = ArrayCall { elements: &mut elements, lookups, names };
                guest.array(callback.id, callback.source, self.depth, &mut call);
                let added = elements.len().saturating_sub(owners.len()) as u64;
                self.counts.received += added;
                owners.resize(elements.len(), Owner::Now);
                refused.resize(elements.len(), false);
                continue;
            }
            for index in 0..elements.len() {
                let mut slots = std::mem::take(&mut elements.slots[index]);
                let mut cx = Context {
                    fields: &self.fields.list,
                    sample: elements.sample(index),
                    rest: &[],
                    slots: &mut slots,
                    lookups,
                    names: &self.names,
                    clock: &mut self.clock,
                    owner: owners[index],
                    guest: self.guest.as_deref(),
                    depth: self.depth,
                    refused: refused[index],
                };
                step.run(&mut cx);
                refused[index] = cx.refused;
                elements.slots[index] = slots;
            }
        }
        for index in self.chosen(lookups, &mut elements, &refused) {
            self.slots = std::mem::take(&mut elements.slots[index]);
            self.show(lookups, elements.sample(index));
        }
    }

    /// Indexes of the elements that pass filters and conditions, in the order of the array.
    fn chosen(
        &mut self,
        lookups: &Lookups,
        elements: &mut Elements,
        refused: &[bool],
    ) -> Vec<usize> {
        let mut passed = Vec::new();
        for (index, refused) in refused.iter().enumerate() {
            if *refused {
                self.refused += 1;
                self.counts.discarded += 1;
                continue;
            }
            self.slots = std::mem::take(&mut elements.slots[index]);
            let sample = elements.sample(index);
            if !self.passes_late(lookups, sample, &[]) {
                self.counts.discarded += 1;
            } else if let Some(array) = self.array.as_mut().filter(|a| a.sorts()) {
                let names = &self.names;
                let event = Event { sample, rest: &[], slots: &self.slots, lookups, names };
                match array.collect_keys(&event, &self.fields) {
                    true => passed.push(index),
                    false => self.counts.overflow += 1,
                }
            } else {
                passed.push(index);
            }
            elements.slots[index] = std::mem::take(&mut self.slots);
        }
        match self.array.as_mut().filter(|a| a.sorts()) {
            Some(array) => array.take_order().into_iter().map(|n| passed[n]).collect(),
            None => passed,
        }
    }
}
