//! Samples of namespaces that nobody has identified yet wait here, in order and within bounds.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Bytes of samples that wait, over all namespaces…
pub const MAX_BYTES: usize = 8 << 20;
/// …and of one of them, so that a flood in one leaves room for the first events of others.
pub const MAX_BYTES_EACH: usize = 1 << 20;
/// Rejected namespaces that are remembered: programs may still send what they began before.
const MAX_REJECTED: usize = 16384;
const LENGTH: usize = 8;

/// What becomes of a sample now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// It was copied, or counted.
    Held,
    Rejected,
}

/// What user space found out about a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its events are wanted.
    Keep,
    /// They are not.
    Reject,
    /// Nobody could tell in time.
    Lose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending(u64),
    Rejected,
}

/// Keys are inode numbers and births, which nobody chooses.
#[derive(Default)]
pub struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // An odd constant; the top bits, which hash maps use too, depend on all of n.
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

type Fast<V> = HashMap<u64, V, BuildHasherDefault<Multiply>>;

/// Samples of one namespace: lane, length and bytes of each, one behind the other.
#[derive(Debug, Default)]
pub struct Queue {
    bytes: Vec<u8>,
    events: u64,
    /// By lane: samples that found no room, all of them later than those inside.
    overflow: Vec<u64>,
}

impl Queue {
    fn push(&mut self, lane: usize, sample: &[u8]) {
        self.bytes.extend_from_slice(&(lane as u32).to_ne_bytes());
        self.bytes.extend_from_slice(&(sample.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(sample);
        self.events += 1;
    }

    fn refuse(&mut self, lane: usize) {
        if self.overflow.len() <= lane {
            self.overflow.resize(lane + 1, 0);
        }
        self.overflow[lane] += 1;
    }

    /// Samples with their lanes, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (head, behind) = rest.split_at_checked(LENGTH)?;
            let word =
                |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap_or([0; 4]));
            let (sample, behind) = behind.split_at_checked(word(4) as usize)?;
            rest = behind;
            Some((word(0) as usize, sample))
        })
    }

    /// Lanes, and how many samples each has lost for want of room.
    pub fn overflow(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.overflow.iter().copied().enumerate().filter(|(_, n)| *n > 0)
    }
}

#[derive(Default)]
pub struct Hold {
    states: Fast<State>,
    /// In order of rejection.
    rejected: VecDeque<u64>,
    /// By birth.
    queues: Fast<Queue>,
    bytes: usize,
}

impl Hold {
    /// A namespace is pending from now on: an earlier one of its number has ended, and only its
    /// birth tells the two apart.
    pub fn announce(&mut self, mntns: u64, birth: u64) {
        self.states.insert(mntns, State::Pending(birth));
    }

    /// A namespace whose events nobody lets pass yet.
    pub fn forget(&mut self, mntns: u64) {
        self.states.remove(&mntns);
    }

    #[inline]
    pub fn offer(&mut self, lane: usize, mntns: u64, sample: &[u8]) -> Fate {
        if self.states.is_empty() {
            return Fate::Pass;
        }
        match self.states.get(&mntns) {
            None => Fate::Pass,
            Some(State::Rejected) => Fate::Rejected,
            Some(State::Pending(birth)) => {
                let queue = self.queues.entry(*birth).or_default();
                let size = sample.len() + LENGTH;
                // Once one had no room, none has: there are no gaps in what is released.
                if queue.overflow.is_empty()
                    && queue.bytes.len() + size <= MAX_BYTES_EACH
                    && self.bytes + size <= MAX_BYTES
                {
                    queue.push(lane, sample);
                    self.bytes += size;
                } else {
                    queue.refuse(lane);
                }
                Fate::Held
            }
        }
    }

    /// Ends the waiting of a namespace and hands out what waited. `birth` 0: the one that now has
    /// the number. An earlier one may be decided about as well: the later one keeps waiting.
    pub fn decide(&mut self, mntns: u64, birth: u64, verdict: Verdict) -> Queue {
        let now = match self.states.get(&mntns) {
            Some(State::Pending(now)) => *now,
            _ => 0,
        };
        if birth == 0 || birth == now {
            match verdict {
                Verdict::Keep => self.forget(mntns),
                // Of what never waited, late events are as good as its earlier ones.
                Verdict::Reject | Verdict::Lose if now != 0 => self.reject(mntns),
                Verdict::Reject | Verdict::Lose => {}
            }
        }
        let birth = if birth == 0 { now } else { birth };
        let queue = self.queues.remove(&birth).unwrap_or_default();
        self.bytes -= queue.bytes.len();
        queue
    }

    fn reject(&mut self, mntns: u64) {
        if let Entry::Occupied(mut known) = self.states.entry(mntns) {
            if known.insert(State::Rejected) == State::Rejected {
                return;
            }
        } else {
            self.states.insert(mntns, State::Rejected);
        }
        self.rejected.push_back(mntns);
        if self.rejected.len() > MAX_REJECTED {
            if let Some(first) = self.rejected.pop_front() {
                if self.states.get(&first) == Some(&State::Rejected) {
                    self.states.remove(&first);
                }
            }
        }
    }

    /// Everything that still waits, when no more is to come.
    pub fn end(&mut self) -> Vec<Queue> {
        self.states.retain(|_, state| *state == State::Rejected);
        self.bytes = 0;
        self.queues.drain().map(|(_, queue)| queue).collect()
    }

    /// Samples that wait.
    pub fn waiting(&self) -> u64 {
        self.queues.values().map(|q| q.events).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(queue: &Queue) -> Vec<(usize, Vec<u8>)> {
        queue.iter().map(|(lane, s)| (lane, s.to_vec())).collect()
    }

    #[test]
    fn only_pending_ones_wait_and_in_order() {
        let mut hold = Hold::default();
        assert_eq!(hold.offer(0, 7, b"before"), Fate::Pass);
        hold.announce(7, 1);
        assert_eq!(hold.offer(0, 7, b"a"), Fate::Held);
        assert_eq!(hold.offer(0, 8, b"other"), Fate::Pass);
        assert_eq!(hold.offer(1, 7, b""), Fate::Held);
        assert_eq!(hold.offer(0, 7, b"ccc"), Fate::Held);
        assert_eq!(hold.waiting(), 3);
        let queue = hold.decide(7, 0, Verdict::Keep);
        assert_eq!(samples(&queue), [(0, b"a".to_vec()), (1, vec![]), (0, b"ccc".to_vec())]);
        assert_eq!(hold.offer(0, 7, b"later"), Fate::Pass);
        assert_eq!((hold.waiting(), hold.bytes), (0, 0));
        assert!(hold.decide(7, 0, Verdict::Keep).iter().next().is_none());
    }

    #[test]
    fn rejected_ones_stay_out_until_the_number_is_born_again() {
        let mut hold = Hold::default();
        hold.announce(7, 1);
        hold.offer(0, 7, b"a");
        assert_eq!(hold.decide(7, 1, Verdict::Reject).events, 1);
        assert_eq!(hold.offer(0, 7, b"begun before"), Fate::Rejected);
        hold.announce(7, 2);
        assert_eq!(hold.offer(0, 7, b"b"), Fate::Held);
        assert_eq!(samples(&hold.decide(7, 2, Verdict::Keep)), [(0, b"b".to_vec())]);
        assert_eq!(hold.offer(0, 7, b"c"), Fate::Pass);
    }

    #[test]
    fn a_number_that_is_used_again_does_not_mix_two_namespaces() {
        let mut hold = Hold::default();
        hold.announce(7, 1);
        hold.offer(0, 7, b"first");
        hold.announce(7, 2);
        hold.offer(0, 7, b"second");
        assert_eq!(samples(&hold.decide(7, 1, Verdict::Reject)), [(0, b"first".to_vec())]);
        assert_eq!(hold.offer(0, 7, b"still waits"), Fate::Held);
        assert_eq!(hold.decide(7, 2, Verdict::Keep).events, 2);
        assert_eq!(hold.offer(0, 7, b"passes"), Fate::Pass);
    }

    #[test]
    fn bounds_hold_and_what_is_released_has_no_gap() {
        let mut hold = Hold::default();
        let sample = vec![1; 100_000];
        hold.announce(7, 1);
        for _ in 0..20 {
            assert_eq!(hold.offer(3, 7, &sample), Fate::Held);
        }
        hold.offer(3, 7, b"small, but later");
        assert!(hold.bytes <= MAX_BYTES_EACH);
        hold.announce(8, 2);
        hold.offer(0, 8, b"room for others");
        let queue = hold.decide(7, 1, Verdict::Keep);
        assert_eq!((queue.events, queue.overflow().collect::<Vec<_>>()), (10, vec![(3, 11)]));
        for mntns in 100..120 {
            hold.announce(mntns, mntns);
            for _ in 0..11 {
                hold.offer(0, mntns, &sample);
            }
        }
        assert!(hold.bytes <= MAX_BYTES);
        let all = hold.end();
        let lost: u64 = all.iter().flat_map(Queue::overflow).map(|(_, n)| n).sum();
        assert_eq!(all.iter().map(|q| q.events).sum::<u64>() + lost, 20 * 11 + 1);
        assert_eq!((hold.waiting(), hold.bytes), (0, 0));
    }

    #[test]
    fn memory_of_rejections_is_bounded() {
        let mut hold = Hold::default();
        for mntns in 0..MAX_REJECTED as u64 + 10 {
            hold.announce(mntns, mntns + 1);
            hold.decide(mntns, 0, Verdict::Reject);
        }
        assert_eq!(hold.states.len(), MAX_REJECTED);
        assert_eq!(hold.offer(0, 3, b""), Fate::Pass);
        assert_eq!(hold.offer(0, 30, b""), Fate::Rejected);
    }
}
