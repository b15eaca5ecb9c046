//! Which container each element of a map belongs to, while the map still has it: the number of a mount namespace
//! that has ended may be given to a later one before the map is read.

use crate::numbers::ByNumber;
use crate::pipeline::datasource::DataSource;
use crate::pipeline::steps::context::Owner;
use crate::schema::lookups::Lookups;

/// Numbers that are followed. There are as many as namespaces that began or ended since the map was
/// read, or live.
const MAX_NUMBERS: usize = 1 << 16;
/// Bytes of the elements that wait for the next array.
const MAX_RELEASED: usize = 128 << 20;

#[derive(Clone, Copy, Debug, Default)]
struct Owned {
    generation: u64,
    /// It is a container that runs: nothing else can have its number.
    runs: bool,
    /// No more elements of it will come.
    ended: bool,
    /// Two namespaces may have elements in the map.
    shared: bool,
    /// The reading that is under way takes what there is of it…
    read: bool,
    /// …and it had ended when that began.
    leaves: bool,
}

/// The numbers that may have elements in the map of one data source.
#[derive(Debug, Default)]
pub struct RowOwners {
    numbers: ByNumber<u64, Owned>,
}

impl RowOwners {
    /// A new namespace has the number.
    pub fn announce(&mut self, mntns: u64, generation: u64) {
        let Some(owned) = self.entry(mntns) else { return };
        // A container that runs is announced when the scout had forgotten its namespace.
        let same = owned.generation == generation || owned.runs;
        let first = owned.generation == 0 && !owned.ended && !owned.runs;
        if !same && !first {
            *owned = Owned { shared: true, ..Owned::default() };
        }
        owned.generation = generation;
    }

    /// A container has the number.
    pub fn set(&mut self, mntns: u64) {
        let Some(owned) = self.entry(mntns) else { return };
        owned.runs = true;
        owned.ended = false;
    }

    /// No more elements of it will come. `generation` 0: of the one that has the number now.
    pub fn end(&mut self, mntns: u64, generation: u64) {
        if let Some(owned) = self.numbers.get_mut(&mntns) {
            owned.runs = false;
            owned.ended |= generation == 0 || generation == owned.generation;
        }
    }

    /// True when an element with this number may be of one of two namespaces.
    pub fn is_shared(&self, mntns: u64) -> bool {
        self.numbers.get(&mntns).is_some_and(|owned| owned.shared)
    }

    /// All elements are about to be taken out of the map.
    pub fn begin_reading(&mut self) {
        for owned in self.numbers.values_mut() {
            owned.read = true;
            owned.leaves = owned.ended;
        }
    }

    pub fn end_reading(&mut self, whole: bool) {
        self.numbers.retain(|_, owned| {
            let (read, leaves) = (owned.read && whole, owned.leaves);
            owned.shared &= !read;
            owned.read = false;
            owned.leaves = false;
            !(read && leaves)
        });
    }

    /// The elements of these numbers have been taken out of the map.
    pub fn taken(&mut self, mntns: &[u64]) {
        for number in mntns {
            if self.numbers.get(number).is_some_and(|owned| owned.ended) {
                self.numbers.remove(number);
            } else if let Some(owned) = self.numbers.get_mut(number) {
                owned.shared = false;
            }
        }
    }

    fn entry(&mut self, mntns: u64) -> Option<&mut Owned> {
        if self.numbers.len() >= MAX_NUMBERS && !self.numbers.contains_key(&mntns) {
            return None;
        }
        Some(self.numbers.entry(mntns).or_default())
    }
}

/// Elements that wait for the next array, one behind the other, and the container of each.
#[derive(Default)]
pub struct Released {
    elements: Vec<u8>,
    owners: Vec<Owner>,
}

impl Released {
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Keeps an element and the names of the container that has its number now. False when there
    /// is no room.
    pub fn push(&mut self, lookups: &mut Lookups, mntns: Option<u64>, element: &[u8]) -> bool {
        if self.elements.len() + element.len() > MAX_RELEASED {
            return false;
        }
        let row = mntns.and_then(|number| lookups.containers.hold(number));
        self.elements.extend_from_slice(element);
        self.owners.push(row.map_or(Owner::Unknown, Owner::Held));
        true
    }

    /// Gives all elements to `source`, which has begun an array. What is returned is let go of when
    /// the array has been rendered.
    pub fn show(&mut self, source: &mut DataSource, lookups: &Lookups) -> Vec<Owner> {
        let elements = std::mem::take(&mut self.elements);
        let owners = std::mem::take(&mut self.owners);
        let size = source.sample_size.max(1);
        for (element, owner) in elements.chunks_exact(size).zip(&owners) {
            source.process_of(lookups, element, *owner);
        }
        owners
    }
}

pub fn let_go(lookups: &mut Lookups, owners: &[Owner]) {
    for owner in owners {
        if let Owner::Held(row) = owner {
            lookups.containers.let_go(*row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(owners: &mut RowOwners) {
        owners.begin_reading();
        owners.end_reading(true);
    }

    #[test]
    fn a_number_that_is_given_again_before_the_map_is_read_is_shared() {
        let mut owners = RowOwners::default();
        owners.announce(7, 1);
        assert!(!owners.is_shared(7));
        owners.announce(7, 1);
        assert!(!owners.is_shared(7));
        owners.announce(7, 2);
        assert!(owners.is_shared(7) && !owners.is_shared(8));
        read(&mut owners);
        assert!(!owners.is_shared(7));
        owners.announce(7, 3);
        assert!(owners.is_shared(7));
    }

    #[test]
    fn what_has_been_read_since_its_end_is_forgotten() {
        let mut owners = RowOwners::default();
        owners.announce(7, 1);
        owners.set(7);
        read(&mut owners);
        owners.end(7, 0);
        owners.announce(7, 2);
        assert!(owners.is_shared(7));
        owners.end(7, 1);
        read(&mut owners);
        assert_eq!(owners.numbers.len(), 1);
        owners.end(7, 2);
        read(&mut owners);
        assert!(owners.numbers.is_empty());
        owners.announce(7, 3);
        owners.end(7, 3);
        owners.taken(&[7]);
        owners.announce(7, 4);
        assert!(!owners.is_shared(7));
        owners.announce(7, 5);
        owners.taken(&[7, 9]);
        assert!(!owners.is_shared(7) && owners.numbers.len() == 1);
    }

    #[test]
    fn what_changes_while_the_map_is_read_counts_for_the_next_reading() {
        let mut owners = RowOwners::default();
        owners.announce(7, 1);
        owners.set(8);
        owners.begin_reading();
        owners.announce(7, 2);
        owners.end(8, 0);
        owners.end_reading(true);
        assert!(owners.is_shared(7) && owners.numbers.contains_key(&8));
        owners.begin_reading();
        owners.end_reading(false);
        assert!(owners.is_shared(7) && owners.numbers.contains_key(&8));
        read(&mut owners);
        assert!(!owners.is_shared(7) && !owners.numbers.contains_key(&8));
    }

    #[test]
    fn a_container_that_runs_is_the_same_when_it_is_announced() {
        let mut owners = RowOwners::default();
        owners.set(7);
        owners.announce(7, 1);
        owners.announce(7, 2);
        assert!(!owners.is_shared(7));
        owners.end(7, 0);
        owners.announce(7, 3);
        assert!(owners.is_shared(7));
    }

    #[test]
    fn numbers_are_bounded() {
        let mut owners = RowOwners::default();
        for number in 0..MAX_NUMBERS as u64 + 10 {
            owners.announce(number, number + 1);
        }
        assert_eq!(owners.numbers.len(), MAX_NUMBERS);
    }
}
