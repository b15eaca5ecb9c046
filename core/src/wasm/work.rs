//! The time that host functions take until the module has started. It is not in its instructions: a
//! call of one instruction may copy megabytes or make a map.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::limits;

const ROUNDS: u64 = 1_000_000;
/// What the rounds take on a server processor of 2020, at least.
const USUAL: Duration = Duration::from_micros(1_300);

pub struct Work {
    began: Instant,
    spent: Duration,
    limit: Duration,
    /// The machine's slowness is in the limit.
    measured: bool,
    /// The module has not started yet.
    pub limited: bool,
}

impl Work {
    pub fn new() -> Work {
        Work {
            began: Instant::now(),
            spent: Duration::ZERO,
            limit: limits::START_HOST,
            measured: false,
            limited: true,
        }
    }

    /// A host function begins.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// The host function waited for nothing but time until now.
    pub fn slept(&mut self) {
        self.began = Instant::now();
    }

    /// The host function ends; false when all of them took too long together.
    pub fn end(&mut self, now: Instant) -> bool {
        if !self.limited {
            return true;
        }
        self.spent += now.saturating_duration_since(self.began);
        if self.spent > self.limit && !self.measured {
            self.measured = true;
            self.limit = limits::START_HOST.mul_f64(slowness());
        }
        self.spent <= self.limit
    }
}

/// How many times longer than a usual machine this one takes, at least 1: an emulated one takes
/// twenty times as long.
fn slowness() -> f64 {
    let least = (0..3).map(|_| rounds()).min().unwrap_or_default();
    (least.as_secs_f64() / USUAL.as_secs_f64()).max(1.0)
}

fn rounds() -> Duration {
    let began = Instant::now();
    let value = (0..ROUNDS).fold(1u64, |value, n| black_box(value.wrapping_mul(31) ^ n));
    black_box(value);
    began.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_adds_up_to_the_limit_until_the_module_has_started() {
        let mut work = Work::new();
        let part = limits::START_HOST / 4;
        for _ in 0..4 {
            work.began = Instant::now();
            assert!(work.end(work.began + part));
        }
        let whole = Duration::from_secs(3600);
        assert!(!work.end(work.began + whole), "on any machine");
        work.limited = false;
        assert!(work.end(work.began + whole));
    }
}
