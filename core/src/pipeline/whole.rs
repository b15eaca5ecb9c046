//! The elements of an array that a wasm module sees whole.

use super::steps::context::Owner;
use crate::wasm::Elements;

/// The elements of the array that is open.
pub struct Whole {
    pub elements: Elements,
    /// The container of each of them.
    pub owners: Vec<Owner>,
    size: usize,
}

impl Whole {
    pub fn new(size: usize) -> Whole {
        Whole { elements: Elements::new(size), owners: Vec::new(), size }
    }

    pub fn take(&mut self) -> (Elements, Vec<Owner>) {
        let empty = Elements::new(self.size);
        (std::mem::replace(&mut self.elements, empty), std::mem::take(&mut self.owners))
    }
}
