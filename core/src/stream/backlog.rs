//! Samples that were copied out of the kernel's buffers, in order and within a bound: they are
//! rendered when there is time.

use std::collections::VecDeque;

use crate::errors::Result;
use crate::schema::lookups::{ContainerValue, Containers};
use crate::schema::texts::{word, Texts};

/// Bytes of memory that are taken at once.
const CHUNK: usize = 256 << 10;
/// The smallest bound: a chunk that is written, one that is read, and two between them.
pub const MIN_BYTES: usize = 4 * CHUNK;
/// Index of the data source, bytes of the sample, bytes kept of it; 32 bits each.
const HEADER: usize = 12;
const LENGTH: usize = 4;
/// Changes may take this part of the bound.
const CHANGES_PART: usize = 4;
/// Memory of a change without its texts.
const CHANGE: usize = 256;

/// A change of the containers that are known.
pub enum Change {
    Set { mntns: u64, netns: u64, values: Vec<(String, ContainerValue)> },
    End(u64),
    Drop(u64),
}

impl Change {
    pub fn apply(&self, containers: &mut Containers) -> Result<()> {
        match self {
            Change::Set { mntns, netns, values } => containers.set(*mntns, *netns, values)?,
            Change::End(mntns) => containers.end(*mntns),
            Change::Drop(mntns) => containers.drop(*mntns),
        }
        Ok(())
    }

    /// The mount namespace that it is about.
    pub fn mntns(&self) -> u64 {
        match self {
            Change::Set { mntns, .. } | Change::End(mntns) | Change::Drop(mntns) => *mntns,
        }
    }

    fn bytes(&self) -> usize {
        let Change::Set { values, .. } = self else { return CHANGE };
        let text = |(name, value): &(String, ContainerValue)| {
            name.len() + if let ContainerValue::Text(text) = value { text.len() } else { 0 }
        };
        CHANGE + values.iter().map(|value| CHANGE / 8 + text(value)).sum::<usize>()
    }
}

#[derive(Default)]
pub struct Backlog {
    limit: usize,
    /// By data source.
    texts: Vec<Texts>,
    chunks: VecDeque<Vec<u8>>,
    /// Position in the first chunk.
    at: usize,
    /// A chunk that was read to its end, to be written again.
    spare: Option<Vec<u8>>,
    /// Memory of the chunks.
    bytes: usize,
    /// The most memory that one of the samples so far has taken.
    largest: usize,
    pushed: u64,
    popped: u64,
    /// Changes that come into force when so many samples have been popped.
    changes: VecDeque<(u64, Change)>,
    change_bytes: usize,
    scratch: Vec<u8>,
}

impl Backlog {
    /// For at most `limit` bytes.
    pub fn new(limit: usize, texts: Vec<Texts>) -> Backlog {
        let largest = HEADER + texts.iter().map(Texts::most_of_struct).max().unwrap_or(0);
        Backlog { limit: limit.max(MIN_BYTES), texts, largest, ..Backlog::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.pushed == self.popped
    }

    /// True when a sample as large as the largest so far fits.
    #[inline]
    pub fn has_room(&self) -> bool {
        let fits = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= self.largest;
        self.chunks.back().is_some_and(fits)
            || self.bytes + CHUNK.max(self.largest) + self.change_bytes <= self.limit
    }

    /// Appends a copy of a sample, also where there is no room.
    pub fn push(&mut self, datasource: usize, sample: &[u8]) {
        let Some(texts) = self.texts.get(datasource) else { return };
        let most = HEADER + texts.most(sample.len());
        self.largest = self.largest.max(most);
        let fits = |chunk: &&mut Vec<u8>| chunk.capacity() - chunk.len() >= most;
        let chunk = match self.chunks.back_mut().filter(fits) {
            Some(chunk) => chunk,
            None => {
                let spare = self.spare.take().filter(|spare| spare.capacity() >= most);
                let chunk = spare.unwrap_or_else(|| Vec::with_capacity(CHUNK.max(most)));
                self.bytes += chunk.capacity();
                self.chunks.push_back(chunk);
                // Not empty: it was just pushed.
                let Some(chunk) = self.chunks.back_mut() else { return };
                chunk
            }
        };
        chunk.extend_from_slice(&(datasource as u32).to_ne_bytes());
        chunk.extend_from_slice(&(sample.len() as u32).to_ne_bytes());
        let start = chunk.len() + LENGTH;
        chunk.extend_from_slice(&[0; LENGTH]);
        texts.store(sample, chunk);
        let kept = (chunk.len() - start) as u32;
        chunk[start - LENGTH..start].copy_from_slice(&kept.to_ne_bytes());
        self.pushed += 1;
    }

    /// The oldest sample, and the index of its data source. Changes that are due come first
    /// ([`Backlog::due`]).
    pub fn pop(&mut self) -> Option<(usize, &[u8])> {
        while self.chunks.front().is_some_and(|chunk| chunk.len() == self.at) {
            self.at = 0;
            let mut chunk = self.chunks.pop_front()?;
            self.bytes -= chunk.capacity();
            chunk.clear();
            // What was a burst gives its memory back.
            self.spare = (!self.chunks.is_empty()).then_some(chunk);
        }
        let stored = self.chunks.front()?.get(self.at..)?;
        let (head, rest) = stored.split_at(HEADER);
        let [index, length, kept] = [0, 4, 8].map(|at| word(&head[at..at + 4]) as usize);
        self.at += HEADER + kept;
        self.popped += 1;
        Some((index, self.texts[index].restore(&rest[..kept], length, &mut self.scratch)))
    }

    /// Keeps a change until the samples that came before it have been popped.
    pub fn defer(&mut self, change: Change) {
        self.change_bytes += change.bytes();
        self.changes.push_back((self.pushed, change));
    }

    /// True when a change of that mount namespace waits.
    pub fn defers(&self, mntns: u64) -> bool {
        self.changes.iter().any(|(_, change)| change.mntns() == mntns)
    }

    /// The next change, if all samples before it have been popped.
    pub fn due(&mut self) -> Option<Change> {
        let popped = self.popped;
        if self.changes.front().is_none_or(|(after, _)| *after > popped) {
            return None;
        }
        let (_, change) = self.changes.pop_front()?;
        self.change_bytes -= change.bytes();
        Some(change)
    }

    /// True when samples must be given up, as changes wait for them that take too much memory.
    pub fn has_too_many_changes(&self) -> bool {
        self.change_bytes > self.limit / CHANGES_PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::event::until_nul;

    fn backlog(limit: usize) -> Backlog {
        let texts = Texts::new(100, vec![80..100, 8..72]);
        Backlog::new(limit, vec![Texts::default(), texts])
    }

    fn sample(number: u8, text: &[u8], last: &[u8]) -> Vec<u8> {
        let mut sample = vec![number; 100];
        for (place, text) in [(8..72, text), (80..100, last)] {
            sample[place.start..place.start + text.len()].copy_from_slice(text);
            if text.len() < place.len() {
                sample[place.start + text.len()] = 0;
            }
        }
        sample
    }

    /// Without what is behind the texts.
    fn seen(sample: &[u8]) -> [Vec<u8>; 5] {
        let texts = [8..72, 80..100].map(|place| until_nul(&sample[place]).to_vec());
        let [first, second] = texts;
        [sample[..8].to_vec(), first, sample[72..80].to_vec(), second, sample[100..].to_vec()]
    }

    #[test]
    fn samples_come_in_order_with_their_texts() {
        let mut backlog = backlog(0);
        let long = [b'x'; 64];
        let mut given = vec![
            sample(1, b"/etc/passwd", b""),
            sample(2, b"", b"abc"),
            sample(3, &long, &long[..20]),
            sample(4, &long[..63], &long[..19]),
        ];
        given.push([&given[0][..], b"behind the struct"].concat());
        for one in &given {
            backlog.push(1, one);
            backlog.push(0, one);
        }
        // Shorter than the struct.
        backlog.push(1, b"short");
        for one in &given {
            let (index, found) = backlog.pop().unwrap();
            assert_eq!((index, seen(found)), (1, seen(one)));
            assert_eq!(backlog.pop(), Some((0, &one[..])));
        }
        assert_eq!(backlog.pop(), Some((1, &b"short"[..])));
        assert!(backlog.is_empty() && backlog.pop().is_none());
        assert_eq!(backlog.bytes, 0);
    }

    #[test]
    fn the_bound_is_kept_and_memory_is_given_back() {
        let mut backlog = backlog(MIN_BYTES);
        let one = [7; 1000];
        let mut count = 0;
        while backlog.has_room() {
            backlog.push(0, &one);
            count += 1;
        }
        assert!(backlog.bytes <= MIN_BYTES);
        assert!(count > 1000, "{count} samples of 1000 bytes in 1 MiB");
        for _ in 0..count / 2 {
            assert_eq!(backlog.pop(), Some((0, &one[..])));
        }
        assert!(backlog.has_room());
        for _ in count / 2..count {
            assert_eq!(backlog.pop(), Some((0, &one[..])));
        }
        assert!(backlog.pop().is_none());
        assert!(backlog.chunks.is_empty() && backlog.spare.is_none());
    }

    #[test]
    fn a_sample_that_is_larger_than_a_chunk_has_its_own() {
        let mut backlog = backlog(MIN_BYTES);
        let large = vec![9; 3 * CHUNK];
        backlog.push(0, b"before");
        backlog.push(0, &large);
        assert!(!backlog.has_room());
        backlog.push(0, b"behind");
        assert_eq!(backlog.pop(), Some((0, &b"before"[..])));
        assert_eq!(backlog.pop(), Some((0, &large[..])));
        assert_eq!(backlog.pop(), Some((0, &b"behind"[..])));
        assert!(backlog.pop().is_none());
    }

    #[test]
    fn changes_come_between_the_samples_of_their_time() {
        let mut backlog = backlog(MIN_BYTES);
        backlog.push(0, b"a");
        backlog.defer(Change::Drop(7));
        backlog.push(0, b"b");
        assert!(backlog.due().is_none());
        backlog.pop();
        assert!(matches!(backlog.due(), Some(Change::Drop(7))));
        assert!(backlog.due().is_none());
        backlog.defer(Change::End(8));
        backlog.pop();
        assert!(matches!(backlog.due(), Some(Change::End(8))));
        assert_eq!(backlog.change_bytes, 0);
    }

    #[test]
    fn a_change_that_waits_is_known_by_its_namespace() {
        let mut backlog = backlog(MIN_BYTES);
        backlog.push(0, b"a");
        backlog.defer(Change::Drop(7));
        assert!(backlog.defers(7) && !backlog.defers(8));
        backlog.pop();
        backlog.due();
        assert!(!backlog.defers(7));
    }

    #[test]
    fn changes_are_bounded_too() {
        let mut backlog = backlog(MIN_BYTES);
        backlog.push(0, b"a");
        for mntns in 0..MIN_BYTES / CHANGES_PART / CHANGE {
            assert!(!backlog.has_too_many_changes());
            backlog.defer(Change::Drop(mntns as u64));
        }
        backlog.defer(Change::Drop(0));
        assert!(backlog.has_too_many_changes());
    }
}
