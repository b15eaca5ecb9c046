//! What the kernel lost of each mount namespace: the table of an object that filters by them
//! (build/include/gadget/loss_table.h).

use std::time::{Duration, Instant};

use super::decisions::{Decisions, Owner};
use crate::bpf::map::Map;
use crate::errors::{Error, Result};

/// Size of a slot: its generation, all who claimed it, the events lost, and a reserve; 64 bits each.
const SLOT: usize = 32;
const MAX_SIZE: usize = 1 << 20;
/// Programs that began before a namespace left the filter map have ended after this time. Later,
/// a task of it only loses what belongs to another task: one that is selected.
const GRACE: Duration = Duration::from_secs(1);

/// Events of no container that is known to be selected; the object's counter has them too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Apart {
    /// Of namespaces that are not selected.
    pub others: u64,
    /// Of namespaces that will be decided about…
    pub undecided: u64,
    /// …and of those that no slot of their own was found for.
    pub shared: u64,
}

pub struct LossTable {
    map: Map,
    offset: usize,
    size: usize,
    slots: Slots,
}

/// By slot.
#[derive(Default)]
struct Slots {
    /// When its namespace was found not to be selected, and what was lost of it until GRACE later.
    closed: Vec<Option<(Instant, u64)>>,
}

impl LossTable {
    pub fn open(map: Map, offset: usize, size: usize) -> Result<LossTable> {
        if size == 0 || size > MAX_SIZE || !size.is_multiple_of(SLOT) {
            return Err(Error::plan(format!("a loss table has no {size} bytes")));
        }
        map.check_range(offset, size)?;
        let slots = Slots { closed: vec![None; size / SLOT] };
        Ok(LossTable { map, offset, size, slots })
    }

    pub fn read(&self) -> Result<Vec<u8>> {
        let section = self.map.lookup(&[0; 4])?.unwrap_or_default();
        Ok(section.get(self.offset..self.offset + self.size).unwrap_or_default().to_vec())
    }

    /// `decisions` must know of each namespace that was pending when the table was read.
    pub fn sort(&mut self, raw: &[u8], decisions: &Decisions) -> Apart {
        self.slots.sort(raw, decisions, GRACE)
    }
}

impl Slots {
    fn sort(&mut self, raw: &[u8], decisions: &Decisions, grace: Duration) -> Apart {
        let mut apart = Apart::default();
        let last = self.closed.len() - 1;
        for (index, (slot, closed)) in raw.chunks_exact(SLOT).zip(&mut self.closed).enumerate() {
            let word = |at: usize| slot[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
            let (generation, claimed, lost) = (word(0), word(8), word(16));
            let add = |sum: &mut u64, n: u64| *sum = sum.saturating_add(n);
            if index == last || !is_of_one(generation, claimed) {
                add(&mut apart.shared, lost);
                continue;
            }
            match decisions.get(generation) {
                Some(Owner::Undecided) => add(&mut apart.undecided, lost),
                Some(Owner::Other(since)) => {
                    let known = closed.filter(|(at, _)| *at == since);
                    let count = known.map_or(lost, |(_, count)| count);
                    if since.elapsed() >= grace {
                        *closed = Some((since, count));
                    }
                    add(&mut apart.others, count);
                }
                Some(Owner::Selected) => *closed = None,
                None => match *closed {
                    Some((_, count)) => add(&mut apart.others, count),
                    // The scout could not report it, or the decision is forgotten.
                    None if decisions.is_new(generation) => add(&mut apart.shared, lost),
                    // It is selected from the start.
                    None => {}
                },
            }
        }
        apart
    }
}

/// True when only processes of one namespace took the slot: it was taken once, or twice with the
/// same generation.
fn is_of_one(generation: u64, claimed: u64) -> bool {
    let (times, sum) = (claimed >> 56, claimed & ((1 << 56) - 1));
    matches!(times, 1 | 2) && generation.checked_mul(times) == Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::verdict::Verdict;

    const LONG: Duration = Duration::from_secs(3600);

    fn once(generation: u64) -> u64 {
        (1 << 56) + generation
    }

    fn table(slots: &[(u64, u64, u64)]) -> Vec<u8> {
        slots.iter().flat_map(|s| [s.0, s.1, s.2, 0]).flat_map(u64::to_ne_bytes).collect()
    }

    fn slots(count: usize) -> Slots {
        Slots { closed: vec![None; count] }
    }

    #[test]
    fn losses_are_those_of_the_namespaces_owner() {
        let mut decisions = Decisions::default();
        for generation in [5, 6, 7] {
            decisions.announce(generation);
        }
        decisions.decide(5, Verdict::Reject);
        decisions.decide(6, Verdict::Keep);
        let raw = table(&[
            (5, once(5), 10),
            (6, once(6), 200),
            (7, once(7), 3000),
            (8, once(8), 40_000),  // not reported
            (4, once(4), 600_000), // selected from the start
            (0, 0, 0),
            (0, 0, 500_000), // shared
        ]);
        let found = slots(7).sort(&raw, &decisions, LONG);
        assert_eq!(found, Apart { others: 10, undecided: 3000, shared: 540_000 });
    }

    #[test]
    fn a_slot_that_several_took_at_once_is_of_nobody_known() {
        let mut decisions = Decisions::default();
        decisions.decide(5, Verdict::Reject);
        let twice = once(5) + once(5);
        let raw = table(&[(5, twice, 1), (5, once(5) + once(9), 20), (5, 0, 300), (0, 0, 0)]);
        let found = slots(4).sort(&raw, &decisions, LONG);
        assert_eq!(found, Apart { others: 1, undecided: 0, shared: 320 });
        assert!(!is_of_one(5, once(4) + once(1) + once(10)));
        assert!(!is_of_one(u64::MAX, u64::MAX));
    }

    #[test]
    fn what_is_lost_long_after_the_decision_is_of_selected_containers() {
        let mut decisions = Decisions::default();
        decisions.decide(5, Verdict::Reject);
        let mut slots = slots(2);
        let at = |lost| table(&[(5, once(5), lost), (0, 0, 0)]);
        assert_eq!(slots.sort(&at(104), &decisions, LONG).others, 104);
        assert_eq!(slots.sort(&at(106), &decisions, Duration::ZERO).others, 106);
        assert_eq!(slots.sort(&at(109), &decisions, Duration::ZERO).others, 106);
        // The decision is forgotten.
        assert_eq!(slots.sort(&at(109), &Decisions::default(), LONG).others, 106);
        // It turns out to be selected.
        decisions.decide(5, Verdict::Keep);
        assert_eq!(slots.sort(&at(109), &decisions, LONG), Apart::default());
        assert_eq!(slots.sort(&at(109), &Decisions::default(), LONG), Apart::default());
    }
}
