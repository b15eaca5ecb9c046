//! Packets that the module makes and emits. The stream processes them after the call that emitted
//! them: so a callback may emit into a data source to which the module subscribes.

use std::collections::VecDeque;

use crate::schema::event::Slots;

/// One event of a data source, or a whole array.
#[derive(Debug, Default)]
pub struct Packet {
    /// Index in the module's model.
    pub source: usize,
    pub array: bool,
    pub elements: Vec<Slots>,
    /// How many callbacks one after the other emitted it.
    pub depth: u32,
}

impl Packet {
    pub fn bytes(&self) -> usize {
        self.elements.iter().map(Slots::bytes).sum()
    }
}

#[derive(Default)]
pub struct Outbox {
    packets: VecDeque<Packet>,
}

impl Outbox {
    pub fn push(&mut self, packet: Packet) {
        self.packets.push_back(packet);
    }

    pub fn pop(&mut self) -> Option<Packet> {
        self.packets.pop_front()
    }
}
