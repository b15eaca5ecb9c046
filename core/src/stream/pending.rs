//! Samples of namespaces that are not identified yet are kept back here, in order and within
//! bounds.

use super::decisions::Decisions;
use super::generations::{Fate, Generation, Generations, Numbers, State};
use super::queue::{Queue, HEADER};
use super::verdict::Verdict;
use crate::bpf::scout::{Written, MAX_RINGS};
use crate::numbers::ByNumber;

/// Bytes of samples that wait, over all namespaces…
pub const MAX_BYTES: usize = 8 << 20;
/// …and of one of them, so that a flood in one leaves room for the first events of others.
pub const MAX_BYTES_EACH: usize = 1 << 20;
/// …and over all that users have created: any user can create as many as the kernel lets pass.
pub const MAX_BYTES_USERS: usize = 2 << 20;

#[derive(Default)]
pub struct PendingSamples {
    numbers: Numbers,
    /// By the id of the generation.
    queues: ByNumber<u64, Queue>,
    /// Of root's namespaces, and of those of users.
    bytes: [usize; 2],
    /// How far each ring buffer has been read, by slot.
    consumed: Written,
    pub decisions: Decisions,
    /// Set when no more decisions come: the verdict on every namespace that has none.
    ended: Option<Verdict>,
}

impl PendingSamples {
    /// Samples come from the ring buffers in these slots.
    pub fn of_rings(slots: impl Iterator<Item = usize>) -> PendingSamples {
        let mut pending =
            PendingSamples { consumed: [u64::MAX; MAX_RINGS], ..PendingSamples::default() };
        for slot in slots {
            pending.consumed[slot] = 0;
        }
        pending
    }

    /// All samples before `position` have been read.
    pub fn consumed(&mut self, slot: usize, position: u64) {
        self.consumed[slot] = position;
    }

    /// A new namespace is pending from now on; an earlier one of its number has ended. The filters
    /// may still have the number from that one, even where the scout does not let the new one in.
    /// `of_user`: a user has created it.
    pub fn announce(&mut self, mntns: u64, generation: u64, written: Written, of_user: bool) {
        let state = self.ended.map_or(State::Pending, State::after);
        self.append(mntns, Generation { id: generation, state, written, of_user });
    }

    fn append(&mut self, mntns: u64, generation: Generation) {
        self.decisions.announce(generation.id);
        if let Some(verdict) = self.ended {
            self.decisions.decide(generation.id, verdict);
        }
        self.numbers.append(mntns, generation, &self.consumed);
    }

    /// `position`: slot of the ring buffer and position of the sample in it; None: the sample is
    /// taken for one of the latest generation.
    #[inline]
    pub fn offer(
        &mut self,
        datasource: usize,
        position: Option<(usize, u64)>,
        mntns: u64,
        sample: &[u8],
    ) -> Fate {
        if self.numbers.is_empty() {
            return Fate::Pass;
        }
        let Some(generations) = self.numbers.get(mntns) else { return Fate::Pass };
        let Some(generation) = generations.at(position) else {
            return if generations.cut { Fate::Lost } else { Fate::Pass };
        };
        let fate = generation.state.fate();
        if fate == Fate::Pending {
            let queue = self.queues.entry(generation.id).or_default();
            let quota = usize::from(generation.of_user);
            queue.of_user = generation.of_user;
            let size = sample.len() + HEADER;
            // After the first refused sample all are refused: what is released has no gaps.
            if queue.is_complete()
                && queue.bytes() + size <= MAX_BYTES_EACH
                && self.bytes[quota] + size <= [MAX_BYTES, MAX_BYTES_USERS][quota]
            {
                queue.push(datasource, sample);
                self.bytes[quota] += size;
            } else {
                queue.refuse(datasource);
            }
        }
        fate
    }

    /// What `offer` would do with a sample of the latest generation; nothing is copied or counted.
    pub fn fate(&self, mntns: u64) -> Fate {
        let latest = self.numbers.get(mntns).and_then(Generations::latest);
        latest.map_or(Fate::Pass, |generation| generation.state.fate())
    }

    /// True when samples of that generation that are read later are told from those of the next
    /// one, and need no room until then.
    pub fn may_stay_unread(&self, mntns: u64, generation: u64) -> bool {
        let found = self.numbers.get(mntns).and_then(|known| known.find(generation));
        // Position 0 may only mean that the scout did not know the ring buffer yet.
        let placed = |found: &Generation| {
            let mut rings = found.written.iter().zip(&self.consumed);
            rings.all(|(written, consumed)| *written != 0 || *consumed == u64::MAX)
        };
        !self.numbers.is_crowded() && found.is_some_and(placed)
    }

    /// Everything in the ring buffers has been read.
    pub fn all_read(&mut self) {
        self.numbers.all_read();
    }

    /// Ends the waiting of a namespace and returns its samples. Generation 0 is the latest one,
    /// unless that has been decided about already otherwise than as lost.
    pub fn decide(&mut self, mntns: u64, generation: u64, verdict: Verdict) -> Queue {
        let mut id = generation;
        if let Some(generations) = self.numbers.get_mut(mntns) {
            let found = match id {
                0 => generations.latest_mut().filter(|g| g.state.is_open()),
                _ => generations.by_id(id),
            };
            if let Some(found) = found {
                id = found.id;
                found.state = State::after(verdict);
            }
            self.numbers.decided(mntns);
        }
        self.decisions.decide(id, verdict);
        let queue = self.queues.remove(&id).unwrap_or_default();
        self.bytes[usize::from(queue.of_user)] -= queue.bytes();
        queue
    }

    /// Returns all samples that wait. The verdict also applies to samples that are read later, of
    /// undecided namespaces and of those that are announced from now on.
    pub fn end(&mut self, verdict: Verdict) -> Vec<Queue> {
        self.ended = Some(verdict);
        self.decisions.end(verdict);
        for generation in self.numbers.all_mut() {
            if generation.state == State::Pending {
                generation.state = State::after(verdict);
            }
        }
        self.bytes = [0; 2];
        self.queues.drain().map(|(_, queue)| queue).collect()
    }

    /// Samples that wait.
    pub fn waiting(&self) -> u64 {
        self.queues.values().map(Queue::events).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Written = [0; MAX_RINGS];

    fn samples(queue: &Queue) -> Vec<(usize, Vec<u8>)> {
        queue.iter().map(|(index, s)| (index, s.to_vec())).collect()
    }

    #[test]
    fn samples_of_pending_namespaces_wait_in_order() {
        let mut pending = PendingSamples::default();
        assert_eq!(pending.offer(0, None, 7, b"before"), Fate::Pass);
        pending.announce(7, 1, START, false);
        assert_eq!(pending.offer(0, None, 7, b"a"), Fate::Pending);
        assert_eq!(pending.offer(0, None, 8, b"other"), Fate::Pass);
        assert_eq!(pending.offer(1, None, 7, b""), Fate::Pending);
        assert_eq!(pending.offer(0, None, 7, b"ccc"), Fate::Pending);
        assert_eq!(pending.waiting(), 3);
        let queue = pending.decide(7, 0, Verdict::Keep);
        assert_eq!(samples(&queue), [(0, b"a".to_vec()), (1, vec![]), (0, b"ccc".to_vec())]);
        assert_eq!(pending.offer(0, None, 7, b"later"), Fate::Pass);
        assert_eq!((pending.waiting(), pending.bytes), (0, [0, 0]));
        assert!(pending.decide(7, 0, Verdict::Keep).iter().next().is_none());
    }

    #[test]
    fn samples_of_a_rejected_namespace_stay_out_until_the_next_generation() {
        let mut pending = PendingSamples::default();
        pending.announce(7, 1, START, false);
        pending.offer(0, None, 7, b"a");
        assert_eq!(pending.decide(7, 1, Verdict::Reject).events(), 1);
        assert_eq!(pending.offer(0, None, 7, b"begun before"), Fate::Rejected);
        pending.announce(7, 2, START, false);
        assert_eq!(pending.offer(0, None, 7, b"b"), Fate::Pending);
        assert_eq!(samples(&pending.decide(7, 2, Verdict::Keep)), [(0, b"b".to_vec())]);
        assert_eq!(pending.offer(0, None, 7, b"c"), Fate::Pass);
    }

    #[test]
    fn samples_that_are_read_after_the_loss_are_lost_until_a_name_is_told() {
        let mut pending = PendingSamples::default();
        pending.announce(7, 1, START, false);
        assert_eq!(pending.offer(0, None, 7, b"a"), Fate::Pending);
        assert_eq!(pending.decide(7, 0, Verdict::Lose).events(), 1);
        assert_eq!(pending.offer(0, None, 7, b"was in the buffer"), Fate::Lost);
        assert_eq!(pending.decide(7, 0, Verdict::Keep).events(), 0);
        assert_eq!(pending.offer(0, None, 7, b"b"), Fate::Pass);
        pending.announce(8, 2, START, false);
        pending.decide(8, 0, Verdict::Lose);
        pending.decide(8, 0, Verdict::Reject);
        assert_eq!(pending.offer(0, None, 8, b"c"), Fate::Rejected);
        pending.decide(8, 0, Verdict::Keep);
        assert_eq!(pending.offer(0, None, 8, b"c"), Fate::Rejected);
    }

    #[test]
    fn the_fate_of_what_is_only_shown_follows_the_verdicts() {
        let mut pending = PendingSamples::default();
        assert_eq!(pending.fate(7), Fate::Pass);
        pending.announce(7, 1, START, false);
        assert_eq!((pending.fate(7), pending.waiting()), (Fate::Pending, 0));
        pending.decide(7, 1, Verdict::Lose);
        assert_eq!(pending.fate(7), Fate::Lost);
        pending.decide(7, 1, Verdict::Reject);
        assert_eq!((pending.fate(7), pending.fate(8)), (Fate::Rejected, Fate::Pass));
        pending.announce(7, 2, START, false);
        assert_eq!(pending.fate(7), Fate::Pending);
        pending.decide(7, 2, Verdict::Keep);
        assert_eq!(pending.fate(7), Fate::Pass);
    }

    #[test]
    fn what_is_read_after_the_end_shares_the_verdict() {
        for (verdict, fate) in [(Verdict::Keep, Fate::Pass), (Verdict::Lose, Fate::Lost)] {
            let mut pending = PendingSamples::default();
            pending.announce(7, 1, START, false);
            pending.offer(0, None, 7, b"a");
            assert_eq!(pending.end(verdict).iter().map(Queue::events).sum::<u64>(), 1);
            assert_eq!(pending.offer(0, None, 7, b"b"), fate);
            pending.announce(8, 2, START, false);
            assert_eq!(pending.offer(0, None, 8, b"c"), fate);
            assert_eq!(pending.waiting(), 0);
        }
    }

    #[test]
    fn two_generations_of_a_number_are_not_mixed() {
        let mut pending = PendingSamples::default();
        pending.announce(7, 1, START, false);
        pending.offer(0, None, 7, b"first");
        pending.announce(7, 2, START, false);
        pending.offer(0, None, 7, b"second");
        assert_eq!(samples(&pending.decide(7, 1, Verdict::Reject)), [(0, b"first".to_vec())]);
        assert_eq!(pending.offer(0, None, 7, b"still waits"), Fate::Pending);
        assert_eq!(pending.decide(7, 2, Verdict::Keep).events(), 2);
        assert_eq!(pending.offer(0, None, 7, b"passes"), Fate::Pass);
    }

    #[test]
    fn bounds_are_kept_and_released_samples_have_no_gap() {
        let mut pending = PendingSamples::default();
        let sample = vec![1; 100_000];
        pending.announce(7, 1, START, false);
        for _ in 0..20 {
            assert_eq!(pending.offer(3, None, 7, &sample), Fate::Pending);
        }
        pending.offer(3, None, 7, b"small, but later");
        assert!(pending.bytes[0] <= MAX_BYTES_EACH);
        pending.announce(8, 2, START, false);
        pending.offer(0, None, 8, b"room for others");
        let queue = pending.decide(7, 1, Verdict::Keep);
        assert_eq!((queue.events(), queue.overflow().collect::<Vec<_>>()), (10, vec![(3, 11)]));
        for mntns in 100..120 {
            pending.announce(mntns, mntns, START, false);
            for _ in 0..11 {
                pending.offer(0, None, mntns, &sample);
            }
        }
        assert!(pending.bytes[0] <= MAX_BYTES);
        let all = pending.end(Verdict::Keep);
        let lost: u64 = all.iter().flat_map(Queue::overflow).map(|(_, n)| n).sum();
        assert_eq!(all.iter().map(|q| q.events()).sum::<u64>() + lost, 20 * 11 + 1);
        assert_eq!((pending.waiting(), pending.bytes), (0, [0, 0]));
    }

    fn written(position: u64) -> Written {
        let mut written = START;
        written[2] = position;
        written
    }

    #[test]
    fn a_sample_belongs_to_the_generation_that_wrote_it() {
        let mut pending = PendingSamples::default();
        let at = |position| Some((2, position));
        for (generation, position) in [(1, 100), (2, 200), (3, 300)] {
            pending.announce(7, generation, written(position), false);
        }
        assert_eq!(pending.offer(0, at(99), 7, b"of an older one"), Fate::Pass);
        assert_eq!(pending.offer(0, at(100), 7, b"one"), Fate::Pending);
        assert_eq!(pending.offer(0, at(250), 7, b"two"), Fate::Pending);
        assert_eq!(pending.offer(0, at(300), 7, b"three"), Fate::Pending);
        assert_eq!(samples(&pending.decide(7, 2, Verdict::Reject)), [(0, b"two".to_vec())]);
        assert_eq!(pending.offer(0, at(290), 7, b"two"), Fate::Rejected);
        assert_eq!(pending.offer(0, at(310), 7, b"three"), Fate::Pending);
        assert_eq!(pending.decide(7, 0, Verdict::Keep).events(), 2);
        assert_eq!(pending.offer(0, at(310), 7, b"three"), Fate::Pass);
        assert_eq!(pending.offer(0, at(199), 7, b"one"), Fate::Pending);
        assert_eq!(pending.decide(7, 1, Verdict::Keep).events(), 2);
        pending.consumed(2, 400);
        pending.announce(7, 4, written(400), false);
        pending.decide(7, 4, Verdict::Keep);
        assert!(pending.numbers.is_empty());
    }

    #[test]
    fn what_is_not_wanted_may_stay_unread_where_its_place_is_known() {
        let mut pending = PendingSamples::of_rings([2].into_iter());
        assert!(!pending.may_stay_unread(7, 1));
        pending.announce(7, 1, START, false);
        assert!(!pending.may_stay_unread(7, 1));
        for generation in 2..=2000 {
            pending.announce(7, generation, written(100 * generation), true);
            assert!(pending.may_stay_unread(7, generation));
            pending.decide(7, generation, Verdict::Reject);
        }
        pending.announce(7, 2001, written(200_100), false);
        assert_eq!(pending.offer(0, Some((2, 199_950)), 7, b"not wanted"), Fate::Rejected);
        assert_eq!(pending.offer(0, Some((2, 200_100)), 7, b"the next one's"), Fate::Pending);
        for mntns in 100..20_000 {
            pending.announce(mntns, mntns, written(mntns), true);
        }
        assert!(!pending.may_stay_unread(7, 2001), "it may be forgotten before it is read");
        pending.all_read();
        assert!(pending.may_stay_unread(7, 2001));
    }
}
