//! The executions that wait for an answer, and for how long.

use std::os::fd::RawFd;

/// Executions that wait at the same time; further ones go on at once.
pub const MAX_WAITING: usize = 64;
/// After so many deadlines in a row no execution waits until the parent answers again.
pub const PATIENCE: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The executed file.
    pub fd: RawFd,
    pub serial: u64,
    pub since: u64,
    /// The parent has said that it knows of the execution, and so that it runs.
    pub taken: bool,
}

/// How long an execution waits, in ns.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// Until the parent takes it.
    pub taken: u64,
    /// Until the parent releases it; counted from the beginning, too.
    pub released: u64,
}

/// The executions that wait, oldest first. Times are in ns.
pub struct Ledger {
    list: [Waiting; MAX_WAITING],
    count: usize,
    bounds: Bounds,
    /// Deadlines in a row that passed without a release by the parent.
    misses: u32,
}

impl Ledger {
    pub fn new(bounds: Bounds) -> Ledger {
        let none = Waiting { fd: -1, serial: 0, since: 0, taken: false };
        Ledger { list: [none; MAX_WAITING], count: 0, bounds, misses: 0 }
    }

    /// True when another execution may wait.
    pub fn patient(&self) -> bool {
        self.count < MAX_WAITING && self.misses < PATIENCE
    }

    pub fn add(&mut self, fd: RawFd, serial: u64, now: u64) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = Waiting { fd, serial, since: now, taken: false };
            self.count += 1;
        }
    }

    fn remove(&mut self, index: usize) -> Option<Waiting> {
        let found = *self.list[..self.count].get(index)?;
        self.list.copy_within(index + 1..self.count, index);
        self.count -= 1;
        Some(found)
    }

    fn place_of(&self, serial: u64) -> Option<usize> {
        self.list[..self.count].iter().position(|w| w.serial == serial)
    }

    /// The parent has taken the execution. Nothing happens when it does not wait any more.
    pub fn take(&mut self, serial: u64) {
        if let Some(index) = self.place_of(serial) {
            self.list[index].taken = true;
        }
    }

    /// The parent's answer. None when the execution does not wait any more.
    pub fn release(&mut self, serial: u64) -> Option<Waiting> {
        self.misses = 0;
        self.remove(self.place_of(serial)?)
    }

    fn deadline(&self, waiting: &Waiting) -> u64 {
        let Bounds { taken, released } = self.bounds;
        waiting.since.saturating_add(if waiting.taken { released } else { taken.min(released) })
    }

    /// An execution whose deadline has passed.
    pub fn expire(&mut self, now: u64) -> Option<Waiting> {
        let index = self.list[..self.count].iter().position(|w| self.deadline(w) <= now)?;
        self.misses = self.misses.saturating_add(1);
        self.remove(index)
    }

    /// Time until the first deadline; None when no execution waits.
    pub fn left(&self, now: u64) -> Option<u64> {
        let first = self.list[..self.count].iter().map(|w| self.deadline(w)).min()?;
        Some(first.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Bounds = Bounds { taken: 100, released: 100 };

    #[test]
    fn an_answer_releases_its_execution_in_any_order() {
        let mut ledger = Ledger::new(SAME);
        for serial in 1..=3 {
            ledger.add(10 + serial as RawFd, serial, serial);
        }
        assert_eq!(ledger.release(2).map(|w| w.fd), Some(12));
        assert_eq!(ledger.release(2), None);
        assert_eq!(ledger.left(3), Some(98));
        assert_eq!(ledger.release(1).map(|w| w.fd), Some(11));
        assert_eq!(ledger.left(3), Some(100));
    }

    #[test]
    fn no_execution_waits_beyond_its_deadline() {
        let mut ledger = Ledger::new(SAME);
        ledger.add(11, 1, 1000);
        ledger.add(12, 2, 1050);
        assert_eq!(ledger.expire(1099), None);
        assert_eq!(ledger.expire(1100).map(|w| w.serial), Some(1));
        assert_eq!(ledger.expire(1100), None);
        assert_eq!(ledger.expire(9000).map(|w| w.serial), Some(2));
        assert_eq!(ledger.left(9000), None);
    }

    #[test]
    fn what_is_taken_waits_longer() {
        let mut ledger = Ledger::new(Bounds { taken: 100, released: 1000 });
        ledger.add(11, 1, 0);
        ledger.add(12, 2, 10);
        ledger.take(1);
        ledger.take(7);
        assert_eq!(ledger.left(0), Some(110));
        assert_eq!(ledger.expire(110).map(|w| w.serial), Some(2));
        assert_eq!(ledger.left(110), Some(890));
        assert_eq!(ledger.expire(999), None);
        assert_eq!(ledger.expire(1000).map(|w| w.serial), Some(1));
        let mut ledger = Ledger::new(Bounds { taken: 100, released: 50 });
        ledger.add(11, 1, 0);
        assert_eq!(ledger.left(0), Some(50));
    }

    #[test]
    fn a_silent_parent_is_not_waited_for_until_it_answers() {
        let mut ledger = Ledger::new(SAME);
        for serial in 1..=u64::from(PATIENCE) {
            assert!(ledger.patient());
            ledger.add(1, serial, 0);
            ledger.expire(100);
        }
        assert!(!ledger.patient());
        assert_eq!(ledger.release(1), None);
        assert!(ledger.patient());
    }

    #[test]
    fn executions_beyond_the_bound_do_not_wait() {
        let mut ledger = Ledger::new(SAME);
        for serial in 1..=MAX_WAITING as u64 {
            assert!(ledger.patient());
            ledger.add(1, serial, 0);
        }
        assert!(!ledger.patient());
        ledger.release(5);
        assert!(ledger.patient());
    }
}
