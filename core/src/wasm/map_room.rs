//! What the maps take that the module made: as long as it has a handle of a map, and as long as a map
//! of maps has it.

use std::collections::HashMap;

use super::limits;

/// A map by its id, and the bytes that it may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    pub id: u32,
    pub bytes: u64,
}

/// The module's maps in maps of maps: by the id of the outer map, and the key.
#[derive(Default)]
pub struct Inner {
    places: HashMap<(u32, Vec<u8>), Own>,
}

impl Inner {
    pub fn put(&mut self, outer: u32, key: &[u8], inner: Option<Own>) {
        let place = (outer, key.to_vec());
        match inner {
            Some(own) => self.places.insert(place, own),
            None => self.places.remove(&place),
        };
    }

    /// What a map takes that is in some map of maps, when the module made it.
    pub fn find(&self, id: u32) -> Option<Own> {
        self.places.values().find(|own| own.id == id).copied()
    }

    pub fn remove(&mut self, outer: u32, key: &[u8]) {
        self.places.remove(&(outer, key.to_vec()));
    }

    /// An error when there is no room for a map of `bytes` beside these and `open`, the maps whose
    /// handles are open.
    pub fn check(&self, open: impl Iterator<Item = Own>, bytes: u64) -> Result<(), String> {
        let all: HashMap<u32, u64> =
            self.places.values().copied().chain(open).map(|own| (own.id, own.bytes)).collect();
        if all.len() >= limits::MAPS {
            return Err(format!("more than {} maps", limits::MAPS));
        }
        if all.values().sum::<u64>() + bytes > limits::ALL_MAPS_BYTES {
            return Err(format!("maps of more than {} bytes", limits::ALL_MAPS_BYTES));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u64 = limits::ALL_MAPS_BYTES / 2;

    #[test]
    fn a_map_counts_once_while_it_is_held_anywhere() {
        let own = Own { id: 7, bytes: HALF };
        let mut inner = Inner::default();
        inner.put(1, b"a", Some(own));
        inner.put(2, b"a", Some(own));
        assert_eq!((inner.find(7), inner.find(8)), (Some(own), None));
        assert_eq!(inner.check([own].into_iter(), HALF), Ok(()));
        assert!(inner.check(std::iter::empty(), HALF + 1).is_err());
        inner.put(1, b"a", None);
        assert!(inner.check(std::iter::empty(), HALF + 1).is_err());
        inner.remove(2, b"a");
        assert_eq!(inner.check(std::iter::empty(), 2 * HALF), Ok(()));
    }

    #[test]
    fn maps_are_counted_without_handles_too() {
        let mut inner = Inner::default();
        for id in 0..limits::MAPS as u32 {
            inner.put(1, &id.to_le_bytes(), Some(Own { id, bytes: 64 }));
        }
        assert!(inner.check(std::iter::empty(), 64).unwrap_err().contains("4096 maps"));
    }
}
