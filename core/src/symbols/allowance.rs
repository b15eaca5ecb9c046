//! The time that files of others may take from the thread that drains events.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// For all, and for the processes of one pid namespace: the time that a start may take, and then one
/// part in so many of the time that passes.
const ALL: (Duration, u32) = (Duration::from_secs(4), 4);
const EACH: (Duration, u32) = (Duration::from_secs(1), 8);
/// Pid namespaces whose spending is remembered.
const MAX_SPENDERS: usize = 256;

/// Time for reading mappings, symbol tables and perf maps. Each is limited in size; processes can
/// make others as fast as they are read. A container's are in one pid namespace: it leaves time for
/// others.
pub struct Allowance {
    began: Instant,
    spent: Duration,
    /// By the pid namespace.
    spenders: HashMap<u64, Duration>,
    /// How often there was no time.
    pub refused: u64,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance {
            began: Instant::now(),
            spent: Duration::ZERO,
            spenders: HashMap::new(),
            refused: 0,
        }
    }
}

impl Allowance {
    /// What `work` returns, for a process of the pid namespace `spender`; None when there is no
    /// time for it now.
    pub fn spend<T>(&mut self, spender: u64, work: impl FnOnce() -> T) -> Option<T> {
        let start = Instant::now();
        let passed = start.duration_since(self.began);
        let left = |spent: Duration, (burst, part): (Duration, u32)| spent <= burst + passed / part;
        let own = self.spenders.get(&spender).copied().unwrap_or_default();
        if !left(self.spent, ALL) || !left(own, EACH) {
            self.refused += 1;
            return None;
        }
        let result = work();
        let took = start.elapsed();
        self.spent += took;
        if self.spenders.len() >= MAX_SPENDERS && !self.spenders.contains_key(&spender) {
            let least = self.spenders.iter().min_by_key(|(_, spent)| **spent).map(|(k, _)| *k);
            least.map(|k| self.spenders.remove(&k));
        }
        *self.spenders.entry(spender).or_default() += took;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_spent_comes_back_as_time_passes() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.spend(1, || 1), Some(1));
        allowance.spent = ALL.0 + LONG;
        assert_eq!(allowance.spend(1, || 2), None);
        assert_eq!(allowance.refused, 1);
        allowance.began -= LONG * ALL.1;
        assert_eq!(allowance.spend(1, || 3), Some(3));
        assert_eq!(allowance.refused, 1);
    }

    #[test]
    fn no_namespace_takes_the_time_of_others() {
        let mut allowance = Allowance::default();
        allowance.spenders.insert(1, EACH.0 + LONG);
        assert_eq!(allowance.spend(1, || 1), None);
        assert_eq!(allowance.spend(2, || 2), Some(2));
        allowance.began -= LONG * EACH.1;
        assert_eq!(allowance.spend(1, || 3), Some(3));
    }

    #[test]
    fn of_many_namespaces_those_that_spent_most_are_remembered() {
        let mut allowance = Allowance::default();
        allowance.spenders.insert(0, EACH.0 + LONG);
        for spender in 1..2 * MAX_SPENDERS as u64 {
            allowance.spend(spender, || ());
        }
        assert_eq!(allowance.spenders.len(), MAX_SPENDERS);
        assert_eq!(allowance.spend(0, || 1), None);
    }
}
