//! Handles: numbers by which the module names what the host holds for it.

use std::collections::HashMap;
use std::sync::Arc;

use super::limits;
use super::map_room::Own;
use super::outbox::Packet;
use super::perf_ring::PerfReader;
use crate::bpf::map::Map;
use crate::schema::event::Slots;

/// Bit of a data handle that names an element of an array: the index is in bits 16 to 30, the
/// handle of the array in bits 0 to 15.
const ELEMENT: u32 = 1 << 31;
const MAX_INDEX: u32 = 0x7fff;

/// A map that the module holds.
pub struct HeldMap {
    pub map: Arc<Map>,
    /// The handle is of the call that made the map.
    pub made: bool,
    /// What the map takes, when the module made it.
    pub own: Option<Own>,
}

pub enum Handle {
    Source(usize),
    Field(usize, usize),
    /// A packet that the module made; of an array, it has elements.
    Packet(Packet),
    /// An element that is not appended to its array yet: source and values.
    Element(usize, Box<Slots>),
    /// The event, or the array, of the callback that runs.
    Live,
    Map(HeldMap),
    Perf(Box<PerfReader>),
}

#[derive(Default)]
pub struct Handles {
    open: HashMap<u32, Handle>,
    last: u32,
}

impl Handles {
    pub fn add(&mut self, handle: Handle) -> Result<u32, &'static str> {
        if self.open.len() >= limits::HANDLES {
            return Err("too many open handles");
        }
        let mut number = self.last;
        loop {
            number = (number + 1) & !ELEMENT;
            if number != 0 && !self.open.contains_key(&number) {
                break;
            }
        }
        self.last = number;
        self.open.insert(number, handle);
        Ok(number)
    }

    pub fn get(&self, number: u32) -> Result<&Handle, &'static str> {
        self.open.get(&number).ok_or("an unknown handle")
    }

    pub fn get_mut(&mut self, number: u32) -> Result<&mut Handle, &'static str> {
        self.open.get_mut(&number).ok_or("an unknown handle")
    }

    pub fn remove(&mut self, number: u32) -> Result<Handle, &'static str> {
        self.open.remove(&number).ok_or("an unknown handle")
    }

    pub fn clear(&mut self) {
        self.open.clear();
    }

    pub fn source(&self, number: u32) -> Result<usize, &'static str> {
        match self.get(number)? {
            Handle::Source(source) => Ok(*source),
            _ => Err(WRONG),
        }
    }

    pub fn field(&self, number: u32) -> Result<(usize, usize), &'static str> {
        match self.get(number)? {
            Handle::Field(source, index) => Ok((*source, *index)),
            _ => Err(WRONG),
        }
    }

    pub fn map(&self, number: u32) -> Result<&HeldMap, &'static str> {
        match self.get(number)? {
            Handle::Map(map) => Ok(map),
            _ => Err(WRONG),
        }
    }

    pub fn perf(&mut self, number: u32) -> Result<&mut PerfReader, &'static str> {
        match self.get_mut(number)? {
            Handle::Perf(reader) => Ok(reader),
            _ => Err(WRONG),
        }
    }

    /// The maps that the module made.
    pub fn own_maps(&self) -> impl Iterator<Item = Own> + '_ {
        self.open.values().filter_map(|h| if let Handle::Map(m) = h { m.own } else { None })
    }

    /// Bytes of each perf reader.
    pub fn perf_readers(&self) -> impl Iterator<Item = usize> + '_ {
        let bytes =
            |h: &Handle| if let Handle::Perf(reader) = h { Some(reader.bytes()) } else { None };
        self.open.values().filter_map(bytes)
    }
}

pub const WRONG: &str = "a handle of another kind";

/// The handle of element `index` of an array.
pub fn element(array: u32, index: u32) -> Option<u32> {
    (index <= MAX_INDEX && array <= 0xffff).then_some(ELEMENT | index << 16 | array)
}

/// The array and the index that a data handle names; None for a handle of other data.
pub fn of_element(data: u32) -> Option<(u32, usize)> {
    (data & ELEMENT != 0).then_some((data & 0xffff, (data >> 16 & MAX_INDEX) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_are_bounded() {
        let mut handles = Handles::default();
        for n in 1..=limits::HANDLES as u32 {
            assert_eq!(handles.add(Handle::Source(0)), Ok(n));
        }
        assert!(handles.add(Handle::Source(0)).is_err());
        assert!(handles.remove(7).is_ok());
        assert_eq!(handles.add(Handle::Source(0)), Ok(limits::HANDLES as u32 + 1));
        assert!(handles.get(7).is_err());
        assert!(handles.field(1).is_err());
    }

    #[test]
    fn elements_are_encoded() {
        let number = element(5, 0x7fff).unwrap();
        assert_eq!(of_element(number), Some((5, 0x7fff)));
        assert_eq!((element(5, 0x8000), element(0x1_0000, 1), of_element(5)), (None, None, None));
    }
}
