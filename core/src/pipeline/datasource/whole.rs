//! Arrays with callbacks of a wasm module: a callback may be given all elements, and add some. So the
//! elements are collected with what steps add to them, and the steps go over all of them, one after
//! the other.

use super::behind::Behind;
use super::DataSource;
use crate::pipeline::array::MAX_UNSORTED;
use crate::pipeline::step::Step;
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
        let steps = std::mem::take(&mut self.steps);
        for step in &steps {
            self.run_over(lookups, step, &mut elements, &mut owners, &mut refused);
        }
        self.steps = steps;
        let mut order = self.passing(lookups, &mut elements, &refused);
        let behind = std::mem::take(&mut self.behind);
        for place in Behind::ALL {
            match place {
                Behind::Filters => {}
                Behind::Sort => order = self.sorted(lookups, &elements, order),
                Behind::Limit => self.cut(&mut order),
            }
            let callbacks = &behind[place as usize];
            if callbacks.is_empty() {
                continue;
            }
            elements = elements.pick(&order);
            owners = order.iter().map(|index| owners[*index]).collect();
            refused = vec![false; elements.len()];
            for step in callbacks {
                self.run_over(lookups, step, &mut elements, &mut owners, &mut refused);
            }
            order = (0..elements.len()).collect();
        }
        self.behind = behind;
        for index in order {
            self.slots = std::mem::take(&mut elements.slots[index]);
            self.put(lookups, elements.sample(index));
        }
    }

    /// Runs one step over all elements; callbacks for arrays may add some.
    fn run_over(
        &mut self,
        lookups: &Lookups,
        step: &Step,
        elements: &mut Elements,
        owners: &mut Vec<Owner>,
        refused: &mut Vec<bool>,
    ) {
        if let (Some(callback), Some(guest)) = (step.of_array(), &self.guest) {
            let names = &self.names;
            let mut call = ArrayCall { elements, lookups, names };
            guest.array(callback.id, callback.source, self.depth, &mut call);
            let added = elements.len().saturating_sub(owners.len()) as u64;
            self.counts.received += added;
            owners.resize(elements.len(), Owner::Now);
            refused.resize(elements.len(), false);
            return;
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

    /// Indexes of the elements that pass filters and conditions.
    fn passing(
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
            match self.passes_late(lookups, elements.sample(index), &[]) {
                true => passed.push(index),
                false => self.counts.discarded += 1,
            }
            elements.slots[index] = std::mem::take(&mut self.slots);
        }
        passed
    }

    /// The indexes in the order of the array.
    fn sorted(&mut self, lookups: &Lookups, elements: &Elements, order: Vec<usize>) -> Vec<usize> {
        let Some(array) = self.array.as_mut().filter(|a| a.sorts()) else { return order };
        let mut kept = Vec::with_capacity(order.len());
        for index in order {
            let (sample, names) = (elements.sample(index), &self.names);
            let slots = &elements.slots[index];
            let event = Event { sample, rest: &[], slots, lookups, names };
            match array.collect_keys(&event, &self.fields) {
                true => kept.push(index),
                false => self.counts.overflow += 1,
            }
        }
        array.take_order().into_iter().map(|n| kept[n]).collect()
    }

    /// Leaves out what the array has no room for.
    fn cut(&mut self, order: &mut Vec<usize>) {
        let limit = self.array.as_ref().map_or(u64::MAX, |a| a.limit);
        let kept = usize::try_from(limit).unwrap_or(usize::MAX).min(order.len());
        self.counts.discarded += (order.len() - kept) as u64;
        order.truncate(kept);
    }
}
