//! Parts of a text that are the same in many events (a process, a container). They are written
//! once, and copied as long as the values that they depend on are the same.

use std::ops::Range;

use crate::schema::dependency::Dependency;
use crate::schema::event::Event;

/// With more bytes of the sample to compare, writing anew is as quick.
const MAX_KEY: usize = 256;
/// Texts that are remembered, since events of several processes alternate.
const ENTRIES: usize = 32;

/// What a text of several fields depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    sample: Range<usize>,
    container: bool,
}

#[derive(Default)]
struct Entry {
    /// The version of the lookups; None while the entry is empty.
    version: Option<u64>,
    container: u64,
    sample: Vec<u8>,
    text: Vec<u8>,
}

pub struct Memo {
    key: Key,
    entries: Box<[Entry; ENTRIES]>,
    /// Of the event that was looked at last: its entry, and whether that has the text.
    place: usize,
    known: bool,
}

impl Key {
    /// None: writing anew is as quick.
    fn of<'a>(dependencies: impl Iterator<Item = &'a Dependency>) -> Option<Key> {
        let mut key = Key::default();
        for need in dependencies {
            match need {
                Dependency::Nothing => {}
                Dependency::Container => key.container = true,
                Dependency::Sample(range) if key.sample.is_empty() => key.sample = range.clone(),
                Dependency::Sample(range) => {
                    key.sample.start = key.sample.start.min(range.start);
                    key.sample.end = key.sample.end.max(range.end);
                }
                Dependency::Anything => return None,
            }
        }
        (key.sample.len() <= MAX_KEY).then_some(key)
    }
}

/// A hash of the words of a key.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    // With an odd constant, the top bits of the product depend on all bits of the word.
    let mix =
        |sum: u64, word: u64| (sum.rotate_left(26) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = bytes.chunks_exact(8);
    let last = words.remainder().iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    mix(words.fold(seed, |sum, bytes| mix(sum, word(bytes))), last)
}

impl Memo {
    /// For the text of fields with these dependencies; None when the text is hardly ever the same.
    pub fn of<'a>(dependencies: impl Iterator<Item = &'a Dependency>) -> Option<Memo> {
        let entries = Default::default();
        Key::of(dependencies).map(|key| Memo { key, entries, place: 0, known: false })
    }

    /// The container and the bytes of the sample that the text depends on.
    #[inline]
    fn key_of<'a>(&self, event: &Event<'a>) -> (u64, &'a [u8]) {
        let container = if self.key.container { event.slots.container } else { 0 };
        // A sample has the bytes of all fields.
        (container, event.sample.get(self.key.sample.clone()).unwrap_or_default())
    }

    /// Finds the event's text; true when it is known. `version` is that of the lookups.
    #[inline]
    pub fn look(&mut self, event: &Event<'_>, version: u64) -> bool {
        let (container, sample) = self.key_of(event);
        self.place = (hash(container, sample) >> 32) as usize % ENTRIES;
        let entry = &self.entries[self.place];
        // An empty entry is not compared: its bytes are not in the cache of the CPU.
        let same = sample.is_empty() || entry.sample == sample;
        self.known = same && entry.version == Some(version) && entry.container == container;
        self.known
    }

    /// Appends what `write` appends, which must be the same for the same key, for the event that
    /// was just looked at.
    #[inline]
    pub fn write(
        &mut self,
        event: &Event<'_>,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.known {
            out.extend_from_slice(&self.entries[self.place].text);
            return;
        }
        let start = out.len();
        write(out);
        let (container, sample) = self.key_of(event);
        let entry = &mut self.entries[self.place];
        (entry.version, entry.container) = (Some(event.lookups.version()), container);
        entry.sample.clear();
        entry.sample.extend_from_slice(sample);
        entry.text.clear();
        entry.text.extend_from_slice(&out[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cover_what_fields_need() {
        let key = |dependencies: &[Dependency]| Key::of(dependencies.iter());
        let (a, b) = (Dependency::Sample(8..16), Dependency::Sample(100..104));
        let both = Key { sample: 8..104, container: true };
        assert_eq!(key(&[a.clone(), Dependency::Nothing, Dependency::Container, b]), Some(both));
        assert_eq!(key(&[Dependency::Nothing]), Some(Key::default()));
        assert_eq!(key(&[a.clone(), Dependency::Anything]), None);
        assert_eq!(key(&[a, Dependency::Sample(1000..1001)]), None);
    }
}
