//! The elements of one array while the module may see all of them.

use crate::schema::event::{Slot, Slots};

#[derive(Debug, Default)]
pub struct Elements {
    /// Bytes of one sample.
    size: usize,
    /// Whole samples, one behind the other.
    samples: Vec<u8>,
    /// What steps added to each of them.
    pub slots: Vec<Slots>,
}

impl Elements {
    pub fn new(size: usize) -> Elements {
        Elements { size, ..Elements::default() }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn sample(&self, index: usize) -> &[u8] {
        &self.samples[index * self.size..(index + 1) * self.size]
    }

    pub fn push(&mut self, sample: &[u8], slots: Slots) {
        self.samples.extend_from_slice(&sample[..self.size]);
        self.slots.push(slots);
    }

    /// An element whose sample is zeros.
    pub fn push_zeros(&mut self, slots: Slots) {
        self.samples.resize(self.samples.len() + self.size, 0);
        self.slots.push(slots);
    }

    /// The elements at these indexes, each of which is there once; their slots are taken away.
    pub fn pick(&mut self, indexes: &[usize]) -> Elements {
        let mut picked = Elements::new(self.size);
        for index in indexes {
            let slots = std::mem::take(&mut self.slots[*index]);
            picked.push(self.sample(*index), slots);
        }
        picked
    }

    pub fn truncate(&mut self, length: usize) {
        self.samples.truncate(length * self.size);
        self.slots.truncate(length);
    }

    /// Bytes of memory of one element with `fields` fields, without its texts.
    pub fn cost(&self, fields: usize) -> usize {
        self.size + size_of::<Slots>() + fields * size_of::<Slot>()
    }
}
