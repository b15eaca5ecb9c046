//! What was decided about mount namespaces, for the events that the kernel lost of them.

use std::collections::VecDeque;
use std::time::Instant;

use super::verdict::Verdict;
use crate::numbers::ByNumber;

/// Generations that are remembered, the latest ones.
const MAX_DECISIONS: usize = 16384;

/// Whose events those of a namespace are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Undecided,
    /// They are wanted, or may be and will never be known to be.
    Selected,
    /// They are not wanted; since when that is known.
    Other(Instant),
}

#[derive(Default)]
pub struct Decisions {
    /// By generation.
    owners: ByNumber<u64, Owner>,
    order: VecDeque<u64>,
    /// The lowest generation that was announced.
    first: Option<u64>,
}

impl Decisions {
    /// A namespace is pending. What was lost of one that was selected before stays so.
    pub fn announce(&mut self, generation: u64) {
        self.first = Some(self.first.map_or(generation, |first| first.min(generation)));
        if self.get(generation) != Some(Owner::Selected) {
            self.set(generation, Owner::Undecided);
        }
    }

    /// Generation 0 is none.
    pub fn decide(&mut self, generation: u64, verdict: Verdict) {
        let owner = match verdict {
            Verdict::Keep | Verdict::Lose => Owner::Selected,
            Verdict::Reject => Owner::Other(Instant::now()),
        };
        // A number of lost events never becomes less: see announce().
        if generation != 0 && self.get(generation) != Some(Owner::Selected) {
            self.set(generation, owner);
        }
    }

    /// The verdict on all that are undecided.
    pub fn end(&mut self, verdict: Verdict) {
        let undecided = |(generation, owner): (&u64, &Owner)| {
            (*owner == Owner::Undecided).then_some(*generation)
        };
        let rest: Vec<u64> = self.owners.iter().filter_map(undecided).collect();
        for generation in rest {
            self.decide(generation, verdict);
        }
    }

    /// None: it was never pending, or it is not remembered.
    pub fn get(&self, generation: u64) -> Option<Owner> {
        self.owners.get(&generation).copied()
    }

    /// True for a namespace that was made later than one that was announced: generations are serial
    /// numbers.
    pub fn is_new(&self, generation: u64) -> bool {
        self.first.is_some_and(|first| generation > first)
    }

    fn set(&mut self, generation: u64, owner: Owner) {
        if self.owners.insert(generation, owner).is_none() {
            self.order.push_back(generation);
        }
        if self.order.len() > MAX_DECISIONS {
            if let Some(first) = self.order.pop_front() {
                self.owners.remove(&first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_undecided_until_it_is_decided_about() {
        let mut decisions = Decisions::default();
        assert_eq!(decisions.get(7), None);
        for generation in 7..=9 {
            decisions.announce(generation);
        }
        assert_eq!([6, 7, 8, 90].map(|g| decisions.is_new(g)), [false, false, true, true]);
        decisions.decide(7, Verdict::Keep);
        decisions.decide(8, Verdict::Reject);
        decisions.decide(0, Verdict::Keep);
        assert_eq!(decisions.get(7), Some(Owner::Selected));
        assert!(matches!(decisions.get(8), Some(Owner::Other(_))));
        assert_eq!((decisions.get(9), decisions.get(0)), (Some(Owner::Undecided), None));
        decisions.end(Verdict::Lose);
        assert_eq!(decisions.get(9), Some(Owner::Selected));
        assert!(matches!(decisions.get(8), Some(Owner::Other(_))));
    }

    #[test]
    fn what_was_lost_of_a_selected_container_stays_lost() {
        let mut decisions = Decisions::default();
        decisions.announce(7);
        decisions.decide(7, Verdict::Lose);
        decisions.announce(7);
        decisions.decide(7, Verdict::Reject);
        assert_eq!(decisions.get(7), Some(Owner::Selected));
        decisions.announce(8);
        decisions.decide(8, Verdict::Reject);
        decisions.announce(8);
        assert_eq!(decisions.get(8), Some(Owner::Undecided));
        decisions.decide(8, Verdict::Keep);
        assert_eq!(decisions.get(8), Some(Owner::Selected));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut decisions = Decisions::default();
        for generation in 1..=MAX_DECISIONS as u64 + 1 {
            decisions.announce(generation);
        }
        assert_eq!(decisions.get(1), None);
        assert_eq!(decisions.get(2), Some(Owner::Undecided));
        assert_eq!(decisions.owners.len(), MAX_DECISIONS);
    }
}
