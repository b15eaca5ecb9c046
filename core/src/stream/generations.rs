//! The namespaces that had one inode number, one after the other.
//!
//! The kernel gives the inode number of a mount namespace that has ended to a new one. The
//! namespaces that had one number one after the other are its generations; a sample belongs to
//! the generation that had the number when the sample was written.

use std::collections::hash_map::Entry;
use std::collections::VecDeque;

use super::verdict::Verdict;
use crate::bpf::scout::Written;
use crate::numbers::ByNumber;

/// Inode numbers that are remembered: a program may still write a sample of a system call that
/// began before the decision.
const MAX_NUMBERS: usize = 16384;
/// Numbers that one announcement looks at, to forget the oldest.
const LOOKS: usize = 16;
/// Generations of one number whose samples may still be in a ring buffer.
const MAX_GENERATIONS: usize = 1024;

/// What becomes of a sample now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// It was copied to wait for a decision, or counted where there was no room.
    Pending,
    /// It is not wanted.
    Rejected,
    /// It may be wanted; that is not known.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Passing,
    Rejected,
    /// Not identified in time. A later decision about the latest generation still counts.
    Lost,
}

impl State {
    pub fn is_open(self) -> bool {
        matches!(self, State::Pending | State::Lost)
    }

    pub fn fate(self) -> Fate {
        match self {
            State::Pending => Fate::Pending,
            State::Passing => Fate::Pass,
            State::Rejected => Fate::Rejected,
            State::Lost => Fate::Lost,
        }
    }

    pub fn after(verdict: Verdict) -> State {
        match verdict {
            Verdict::Keep => State::Passing,
            Verdict::Reject => State::Rejected,
            Verdict::Lose => State::Lost,
        }
    }
}

/// One namespace of an inode number. In each ring buffer, its samples lie behind `written` and
/// before the `written` of the next generation.
#[derive(Clone, Debug)]
pub struct Generation {
    pub id: u64,
    pub state: State,
    pub written: Written,
    pub of_user: bool,
}

/// The generations of an inode number, oldest first, never empty.
#[derive(Debug)]
pub struct Generations {
    list: VecDeque<Generation>,
    /// Generations were dropped of which samples may still come.
    pub cut: bool,
}

impl Generations {
    /// The generation of a sample at this ring buffer and position; None: before all of them.
    pub fn at(&self, position: Option<(usize, u64)>) -> Option<&Generation> {
        let Some((slot, position)) = position else { return self.list.back() };
        self.list.iter().rev().find(|generation| generation.written[slot] <= position)
    }

    pub fn latest(&self) -> Option<&Generation> {
        self.list.back()
    }

    pub fn latest_mut(&mut self) -> Option<&mut Generation> {
        self.list.back_mut()
    }

    pub fn by_id(&mut self, id: u64) -> Option<&mut Generation> {
        self.list.iter_mut().rev().find(|generation| generation.id == id)
    }

    pub fn find(&self, id: u64) -> Option<&Generation> {
        self.list.iter().rev().find(|generation| generation.id == id)
    }

    /// Generations that follow each other and have been decided about alike become one: samples of
    /// a number that is used again and again may be unread for long.
    fn join(&mut self) {
        let mut before = None;
        self.list.retain(|generation| {
            let alike = before == Some(generation.state) && !generation.state.is_open();
            before = Some(generation.state);
            !alike
        });
    }

    /// Every sample of the number passes: to remember it would change nothing.
    fn all_pass(&self) -> bool {
        self.list.len() == 1 && !self.cut && self.list[0].state == State::Passing
    }

    /// Drops the oldest generations as far as all of their samples have been read.
    fn prune(&mut self, consumed: &Written) {
        while let Some(next) = self.list.get(1) {
            let read = next.written.iter().zip(consumed).all(|(w, c)| w <= c);
            if !read && self.list.len() <= MAX_GENERATIONS {
                break;
            }
            self.cut |= !read;
            self.list.pop_front();
        }
    }
}

/// The inode numbers that are remembered, and their generations.
#[derive(Default)]
pub struct Numbers {
    known: ByNumber<u64, Generations>,
    /// In the order of their first announcement.
    order: VecDeque<u64>,
    /// Numbers since everything in the ring buffers was read.
    added: usize,
}

impl Numbers {
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub fn get(&self, mntns: u64) -> Option<&Generations> {
        self.known.get(&mntns)
    }

    pub fn get_mut(&mut self, mntns: u64) -> Option<&mut Generations> {
        self.known.get_mut(&mntns)
    }

    /// Every remembered generation.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Generation> {
        self.known.values_mut().flat_map(|generations| generations.list.iter_mut())
    }

    /// A new generation, or the latest one again. `consumed`: how far each ring buffer was read.
    pub fn append(&mut self, mntns: u64, generation: Generation, consumed: &Written) {
        match self.known.entry(mntns) {
            Entry::Occupied(mut known) => {
                let generations = known.get_mut();
                let last = generations.list.back_mut();
                if let Some(last) = last.filter(|last| last.id == generation.id) {
                    // The scout's map had no entry of it any more, and the scout announced it
                    // again: samples that are read from now on wait again.
                    last.state = generation.state;
                    return;
                }
                generations.list.push_back(generation);
                generations.prune(consumed);
            }
            Entry::Vacant(place) => {
                place.insert(Generations { list: VecDeque::from([generation]), cut: false });
                self.order.push_back(mntns);
                self.added += 1;
            }
        }
        self.forget_oldest();
    }

    /// Beyond the bound, the oldest numbers are forgotten but those that wait for a decision.
    fn forget_oldest(&mut self) {
        for _ in 0..LOOKS {
            if self.order.len() <= MAX_NUMBERS {
                return;
            }
            let Some(first) = self.order.pop_front() else { return };
            let latest = self.known.get(&first).and_then(Generations::latest);
            if latest.is_some_and(|generation| generation.state.is_open()) {
                self.order.push_back(first);
            } else {
                self.known.remove(&first);
            }
        }
    }

    /// True when numbers may soon be forgotten of which samples are unread.
    pub fn is_crowded(&self) -> bool {
        self.added > MAX_NUMBERS / 2
    }

    /// Everything in the ring buffers has been read.
    pub fn all_read(&mut self) {
        self.added = 0;
    }

    /// A generation of the number has been decided about. A number of which every sample passes is
    /// forgotten: so does what is not known.
    pub fn decided(&mut self, mntns: u64) {
        if let Some(generations) = self.known.get_mut(&mntns) {
            generations.join();
        }
        if self.known.get(&mntns).is_some_and(Generations::all_pass) {
            self.known.remove(&mntns);
            self.order.retain(|number| *number != mntns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::scout::MAX_RINGS;

    const START: Written = [0; MAX_RINGS];

    fn generation(id: u64, state: State, position: u64) -> Generation {
        let mut written = START;
        written[2] = position;
        Generation { id, state, written, of_user: false }
    }

    #[test]
    fn remembered_numbers_are_bounded() {
        let mut numbers = Numbers::default();
        for waiting in 0..LOOKS as u64 - 1 {
            numbers.append(1 << 40 | waiting, generation(1, State::Pending, 0), &START);
        }
        for mntns in 0..MAX_NUMBERS as u64 + 10 {
            numbers.append(mntns, generation(mntns + 2, State::Rejected, 0), &START);
        }
        assert_eq!((numbers.known.len(), numbers.order.len()), (MAX_NUMBERS, MAX_NUMBERS));
        assert!(numbers.get(3).is_none() && numbers.get(100).is_some());
        assert!((0..LOOKS as u64 - 1).all(|waiting| numbers.get(1 << 40 | waiting).is_some()));
    }

    #[test]
    fn what_passes_alone_is_forgotten() {
        let mut numbers = Numbers::default();
        numbers.append(7, generation(1, State::Rejected, 100), &START);
        numbers.decided(7);
        assert!(numbers.get(7).is_some());
        numbers.append(7, generation(2, State::Passing, 200), &START);
        numbers.decided(7);
        assert!(numbers.get(7).is_some());
        let mut consumed = START.map(|_| u64::MAX);
        consumed[2] = 300;
        numbers.append(7, generation(3, State::Passing, 300), &consumed);
        numbers.decided(7);
        assert!(numbers.is_empty() && numbers.order.is_empty());
    }

    #[test]
    fn a_number_that_is_used_again_and_again_is_remembered_in_one_piece() {
        let mut numbers = Numbers::default();
        for id in 1..=10 * MAX_GENERATIONS as u64 {
            let state = if id == 500 { State::Lost } else { State::Rejected };
            numbers.append(7, generation(id, state, 100 * id), &START);
            numbers.decided(7);
        }
        let known = numbers.get(7).expect("it is known");
        assert_eq!((known.list.len(), known.cut), (3, false));
        let state = |position| known.at(Some((2, position))).map(|g| g.state);
        assert_eq!(state(99), None);
        let of = [100, 49_999, 50_000, 50_099, 50_100, u64::MAX].map(state);
        let (rejected, lost) = (Some(State::Rejected), Some(State::Lost));
        assert_eq!(of, [rejected, rejected, lost, lost, rejected, rejected]);
    }

    #[test]
    fn numbers_are_not_forgotten_before_everything_is_read() {
        let mut numbers = Numbers::default();
        for mntns in 0..MAX_NUMBERS as u64 / 2 {
            numbers.append(mntns, generation(mntns + 1, State::Rejected, 100), &START);
        }
        assert!(!numbers.is_crowded());
        numbers.append(1 << 40, generation(1 << 40, State::Rejected, 100), &START);
        assert!(numbers.is_crowded());
        numbers.all_read();
        assert!(!numbers.is_crowded());
    }

    #[test]
    fn the_oldest_of_too_many_generations_are_dropped() {
        let mut numbers = Numbers::default();
        for id in 1..=MAX_GENERATIONS as u64 + 9 {
            numbers.append(7, generation(id, State::Pending, 100 * id), &START);
        }
        let known = numbers.get(7).expect("it is known");
        assert!(known.list.len() <= MAX_GENERATIONS && known.cut);
        assert!(known.at(Some((2, 150))).is_none());
        assert_eq!(known.at(None).map(|g| g.id), Some(MAX_GENERATIONS as u64 + 9));
    }
}
