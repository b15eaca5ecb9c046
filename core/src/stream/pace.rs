//! When the buffers are drained: at once while events are rare, else after some have gathered.

use std::time::{Duration, Instant};

/// Events beyond the rate that may come in a row before they gather.
const TOLERATED: f64 = 16.0;
/// Events beyond the rate that are remembered: soon after a burst, events are rare again.
const REMEMBERED: f64 = 64.0;

/// When [`super::Stream::pump`] drains, and when it returns.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between two drains under steady load: one wake-up for many events. The first event
    /// after a pause is not delayed.
    pub gather: Duration,
    /// Events a second that are rare: each is drained at once, as few wake-ups cost less than the
    /// looks at the buffers while events gather.
    pub rare: u32,
    /// None: no limit.
    pub timeout: Option<Duration>,
    /// The longest time from the first event to the return. None: no limit.
    pub busy: Option<Duration>,
}

/// Tells whether events are rare (a leaky bucket).
#[derive(Default)]
pub struct Rarity {
    beyond: f64,
    at: Option<Instant>,
}

impl Rarity {
    /// `events` were drained at `now`; true when they are rare by a rate in events a second.
    pub fn add(&mut self, events: u64, now: Instant, rate: u32) -> bool {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.beyond = (self.beyond - since.as_secs_f64() * f64::from(rate)).max(0.0);
        self.beyond = (self.beyond + events as f64).min(REMEMBERED);
        self.beyond <= TOLERATED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each of `events` is rare, one each `interval` from `start`.
    fn rare(rarity: &mut Rarity, start: Instant, events: u32, interval: Duration) -> Vec<bool> {
        (0..events).map(|i| rarity.add(1, start + interval * i, 50)).collect()
    }

    #[test]
    fn a_few_events_in_a_row_are_rare() {
        let found = rare(&mut Rarity::default(), Instant::now(), 20, Duration::ZERO);
        assert_eq!(found, [vec![true; 16], vec![false; 4]].concat());
    }

    #[test]
    fn events_below_the_rate_stay_rare() {
        let found = rare(&mut Rarity::default(), Instant::now(), 2000, Duration::from_millis(21));
        assert_eq!(found, [true; 2000]);
    }

    #[test]
    fn events_beyond_the_rate_do_not() {
        let found = rare(&mut Rarity::default(), Instant::now(), 2000, Duration::from_millis(15));
        assert_eq!(found[1000..], [false; 1000]);
    }

    #[test]
    fn a_burst_is_soon_forgotten() {
        let (mut rarity, start) = (Rarity::default(), Instant::now());
        assert!(!rarity.add(1_000_000, start, 50));
        assert!(!rarity.add(1, start + Duration::from_millis(500), 50));
        assert!(rarity.add(1, start + Duration::from_secs(2), 50));
    }
}
