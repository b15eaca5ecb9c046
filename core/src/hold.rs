//! Samples of namespaces that nobody has identified yet wait here, in order and within bounds.

use std::collections::hash_map::Entry;
use std::collections::VecDeque;

use crate::bpf::scout::MAX_RINGS;
use crate::numbers::ByNumber;

/// Bytes of samples that wait, over all namespaces…
pub const MAX_BYTES: usize = 8 << 20;
/// …and of one of them, so that a flood in one leaves room for the first events of others.
pub const MAX_BYTES_EACH: usize = 1 << 20;
/// Numbers of namespaces that are remembered: programs may still send what they began before.
const MAX_NUMBERS: usize = 16384;
/// Namespaces of one number whose samples may still be in a ring.
const MAX_LIVES: usize = 1024;
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
    Pending,
    Passing,
    Rejected,
}

/// One namespace of a number: its samples lie behind `written` in each ring, and before those of
/// the next.
#[derive(Clone, Debug)]
struct Life {
    birth: u64,
    state: State,
    written: Written,
}

pub type Written = [u64; MAX_RINGS];

/// The namespaces of a number, oldest first, never empty.
#[derive(Debug)]
struct Lives {
    list: VecDeque<Life>,
    /// Earlier ones are forgotten while samples of theirs may come.
    cut: bool,
}

impl Lives {
    fn of(&self, at: Option<(usize, u64)>) -> Option<&Life> {
        let Some((slot, position)) = at else { return self.list.back() };
        self.list.iter().rev().find(|life| life.written[slot] <= position)
    }

    /// Those whose samples have all been read are of no interest any more.
    fn prune(&mut self, consumed: &Written) {
        while let Some(next) = self.list.get(1) {
            let read = next.written.iter().zip(consumed).all(|(w, c)| w <= c);
            if !read && self.list.len() <= MAX_LIVES {
                break;
            }
            self.cut |= !read;
            self.list.pop_front();
        }
    }
}

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
    numbers: ByNumber<u64, Lives>,
    /// In order of their first appearance.
    order: VecDeque<u64>,
    /// By birth.
    queues: ByNumber<u64, Queue>,
    bytes: usize,
    /// How far each ring has been read, by slot.
    consumed: Written,
}

impl Hold {
    /// Samples come from the rings in these slots.
    pub fn of_rings(slots: impl Iterator<Item = usize>) -> Hold {
        let mut hold = Hold { consumed: [u64::MAX; MAX_RINGS], ..Hold::default() };
        for slot in slots {
            hold.consumed[slot] = 0;
        }
        hold
    }

    /// What lies before `position` has been read.
    pub fn consumed(&mut self, slot: usize, position: u64) {
        self.consumed[slot] = position;
    }

    /// A namespace is pending from now on; an earlier one of its number has ended.
    pub fn announce(&mut self, mntns: u64, birth: u64, written: Written) {
        self.append(mntns, Life { birth, state: State::Pending, written });
    }

    /// A namespace that the scout lets nothing of pass yet.
    pub fn shut(&mut self, mntns: u64, birth: u64, written: Written) {
        self.append(mntns, Life { birth, state: State::Passing, written });
    }

    fn append(&mut self, mntns: u64, life: Life) {
        match self.numbers.entry(mntns) {
            Entry::Occupied(mut known) => {
                let lives = known.get_mut();
                if let Some(last) = lives.list.back_mut().filter(|last| last.birth == life.birth) {
                    // The kernel had forgotten it: what is read from now on waits again.
                    last.state = life.state;
                    return;
                }
                lives.list.push_back(life);
                lives.prune(&self.consumed);
            }
            Entry::Vacant(place) => {
                place.insert(Lives { list: VecDeque::from([life]), cut: false });
                self.order.push_back(mntns);
            }
        }
        if self.order.len() > MAX_NUMBERS {
            if let Some(first) = self.order.pop_front() {
                let pending = |l: &Life| l.state == State::Pending;
                match self.numbers.get(&first) {
                    Some(lives) if lives.list.back().is_some_and(pending) => {
                        self.order.push_back(first);
                    }
                    _ => {
                        self.numbers.remove(&first);
                    }
                }
            }
        }
    }

    /// `at`: ring and position of the sample; None: of the latest namespace of its number.
    #[inline]
    pub fn offer(
        &mut self,
        lane: usize,
        at: Option<(usize, u64)>,
        mntns: u64,
        sample: &[u8],
    ) -> Fate {
        if self.numbers.is_empty() {
            return Fate::Pass;
        }
        let Some(lives) = self.numbers.get(&mntns) else { return Fate::Pass };
        let Some(life) = lives.of(at) else {
            return if lives.cut { Fate::Rejected } else { Fate::Pass };
        };
        match life.state {
            State::Passing => Fate::Pass,
            State::Rejected => Fate::Rejected,
            State::Pending => {
                let queue = self.queues.entry(life.birth).or_default();
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

    /// Ends the waiting of a namespace and hands out what waited. `birth` 0: the latest that has
    /// the number, unless it is decided about already.
    pub fn decide(&mut self, mntns: u64, birth: u64, verdict: Verdict) -> Queue {
        let mut birth = birth;
        if let Entry::Occupied(mut known) = self.numbers.entry(mntns) {
            let lives = known.get_mut();
            let life = match birth {
                0 => lives.list.back_mut().filter(|life| life.state == State::Pending),
                _ => lives.list.iter_mut().rev().find(|life| life.birth == birth),
            };
            if let Some(life) = life {
                birth = life.birth;
                life.state = match verdict {
                    Verdict::Keep => State::Passing,
                    Verdict::Reject | Verdict::Lose => State::Rejected,
                };
            }
            // Of what never waited, or waits no more, late events are as good as earlier ones.
            if lives.list.len() == 1 && !lives.cut && lives.list[0].state == State::Passing {
                known.remove();
                self.order.retain(|n| *n != mntns);
            }
        }
        let queue = self.queues.remove(&birth).unwrap_or_default();
        self.bytes -= queue.bytes.len();
        queue
    }

    /// Everything that still waits, when no more is to come.
    pub fn end(&mut self) -> Vec<Queue> {
        for lives in self.numbers.values_mut() {
            for life in &mut lives.list {
                if life.state == State::Pending {
                    life.state = State::Passing;
                }
            }
        }
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

    const START: Written = [0; MAX_RINGS];

    fn samples(queue: &Queue) -> Vec<(usize, Vec<u8>)> {
        queue.iter().map(|(lane, s)| (lane, s.to_vec())).collect()
    }

    #[test]
    fn only_pending_ones_wait_and_in_order() {
        let mut hold = Hold::default();
        assert_eq!(hold.offer(0, None, 7, b"before"), Fate::Pass);
        hold.announce(7, 1, START);
        assert_eq!(hold.offer(0, None, 7, b"a"), Fate::Held);
        assert_eq!(hold.offer(0, None, 8, b"other"), Fate::Pass);
        assert_eq!(hold.offer(1, None, 7, b""), Fate::Held);
        assert_eq!(hold.offer(0, None, 7, b"ccc"), Fate::Held);
        assert_eq!(hold.waiting(), 3);
        let queue = hold.decide(7, 0, Verdict::Keep);
        assert_eq!(samples(&queue), [(0, b"a".to_vec()), (1, vec![]), (0, b"ccc".to_vec())]);
        assert_eq!(hold.offer(0, None, 7, b"later"), Fate::Pass);
        assert_eq!((hold.waiting(), hold.bytes), (0, 0));
        assert!(hold.decide(7, 0, Verdict::Keep).iter().next().is_none());
    }

    #[test]
    fn rejected_ones_stay_out_until_the_number_is_born_again() {
        let mut hold = Hold::default();
        hold.announce(7, 1, START);
        hold.offer(0, None, 7, b"a");
        assert_eq!(hold.decide(7, 1, Verdict::Reject).events, 1);
        assert_eq!(hold.offer(0, None, 7, b"begun before"), Fate::Rejected);
        hold.announce(7, 2, START);
        assert_eq!(hold.offer(0, None, 7, b"b"), Fate::Held);
        assert_eq!(samples(&hold.decide(7, 2, Verdict::Keep)), [(0, b"b".to_vec())]);
        assert_eq!(hold.offer(0, None, 7, b"c"), Fate::Pass);
    }

    #[test]
    fn a_number_that_is_used_again_does_not_mix_two_namespaces() {
        let mut hold = Hold::default();
        hold.announce(7, 1, START);
        hold.offer(0, None, 7, b"first");
        hold.announce(7, 2, START);
        hold.offer(0, None, 7, b"second");
        assert_eq!(samples(&hold.decide(7, 1, Verdict::Reject)), [(0, b"first".to_vec())]);
        assert_eq!(hold.offer(0, None, 7, b"still waits"), Fate::Held);
        assert_eq!(hold.decide(7, 2, Verdict::Keep).events, 2);
        assert_eq!(hold.offer(0, None, 7, b"passes"), Fate::Pass);
    }

    #[test]
    fn bounds_hold_and_what_is_released_has_no_gap() {
        let mut hold = Hold::default();
        let sample = vec![1; 100_000];
        hold.announce(7, 1, START);
        for _ in 0..20 {
            assert_eq!(hold.offer(3, None, 7, &sample), Fate::Held);
        }
        hold.offer(3, None, 7, b"small, but later");
        assert!(hold.bytes <= MAX_BYTES_EACH);
        hold.announce(8, 2, START);
        hold.offer(0, None, 8, b"room for others");
        let queue = hold.decide(7, 1, Verdict::Keep);
        assert_eq!((queue.events, queue.overflow().collect::<Vec<_>>()), (10, vec![(3, 11)]));
        for mntns in 100..120 {
            hold.announce(mntns, mntns, START);
            for _ in 0..11 {
                hold.offer(0, None, mntns, &sample);
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
        for mntns in 0..MAX_NUMBERS as u64 + 10 {
            hold.announce(mntns, mntns + 1, START);
            hold.decide(mntns, 0, Verdict::Reject);
        }
        assert_eq!((hold.numbers.len(), hold.order.len()), (MAX_NUMBERS, MAX_NUMBERS));
        assert_eq!(hold.offer(0, None, 3, b""), Fate::Pass);
        assert_eq!(hold.offer(0, None, 30, b""), Fate::Rejected);
    }

    fn written(position: u64) -> Written {
        let mut written = START;
        written[2] = position;
        written
    }

    #[test]
    fn however_late_it_is_read_a_sample_is_of_the_namespace_that_had_the_number_then() {
        let mut hold = Hold::default();
        let at = |position| Some((2, position));
        for (birth, position) in [(1, 100), (2, 200), (3, 300)] {
            hold.announce(7, birth, written(position));
        }
        assert_eq!(hold.offer(0, at(99), 7, b"of an older one"), Fate::Pass);
        assert_eq!(hold.offer(0, at(100), 7, b"one"), Fate::Held);
        assert_eq!(hold.offer(0, at(250), 7, b"two"), Fate::Held);
        assert_eq!(hold.offer(0, at(300), 7, b"three"), Fate::Held);
        assert_eq!(samples(&hold.decide(7, 2, Verdict::Reject)), [(0, b"two".to_vec())]);
        assert_eq!(hold.offer(0, at(290), 7, b"two"), Fate::Rejected);
        assert_eq!(hold.offer(0, at(310), 7, b"three"), Fate::Held);
        assert_eq!(hold.decide(7, 0, Verdict::Keep).events, 2);
        assert_eq!(hold.offer(0, at(310), 7, b"three"), Fate::Pass);
        assert_eq!(hold.offer(0, at(199), 7, b"one"), Fate::Held);
        assert_eq!(hold.decide(7, 1, Verdict::Keep).events, 2);
        hold.consumed(2, 400);
        hold.announce(7, 4, written(400));
        assert_eq!(hold.numbers[&7].list.len(), 1);
        hold.decide(7, 4, Verdict::Keep);
        assert!(hold.numbers.is_empty() && hold.order.is_empty());
    }

    #[test]
    fn of_too_many_lives_the_oldest_are_dropped_and_their_samples_too() {
        let mut hold = Hold::default();
        for life in 1..=MAX_LIVES as u64 + 9 {
            hold.announce(7, life, written(100 * life));
        }
        assert!(hold.numbers[&7].list.len() <= MAX_LIVES);
        assert_eq!(hold.offer(0, Some((2, 150)), 7, b""), Fate::Rejected);
        assert_eq!(hold.offer(0, Some((2, 100_000)), 7, b""), Fate::Held);
    }
}
