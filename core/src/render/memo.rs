//! Parts of a text that repeat from event to event (a process, a container): written once, then
//! copied as long as what they depend on is the same.

use std::ops::Range;

use crate::pipeline::event::Event;
use crate::pipeline::need::Need;

/// Bytes of a sample that are worth comparing.
const MAX_KEY: usize = 256;
/// Texts that are remembered: events of several processes alternate.
const ENTRIES: usize = 32;

/// What a text of several fields depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    sample: Range<usize>,
    container: bool,
}

#[derive(Default)]
struct Entry {
    /// Of the world; None: empty.
    version: Option<u64>,
    container: u64,
    sample: Vec<u8>,
    text: Vec<u8>,
}

pub struct Memo {
    key: Key,
    entries: Box<[Entry; ENTRIES]>,
}

impl Key {
    /// None: not worth it.
    fn of<'a>(needs: impl Iterator<Item = &'a Need>) -> Option<Key> {
        let mut key = Key::default();
        for need in needs {
            match need {
                Need::Nothing => {}
                Need::Container => key.container = true,
                Need::Sample(range) if key.sample.is_empty() => key.sample = range.clone(),
                Need::Sample(range) => {
                    key.sample.start = key.sample.start.min(range.start);
                    key.sample.end = key.sample.end.max(range.end);
                }
                Need::Anything => return None,
            }
        }
        (key.sample.len() <= MAX_KEY).then_some(key)
    }
}

/// The words of a key, mixed.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    // An odd constant: the top bits depend on all of a product's factor.
    let mix =
        |sum: u64, word: u64| (sum.rotate_left(26) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = bytes.chunks_exact(8);
    let last = words.remainder().iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    mix(words.fold(seed, |sum, bytes| mix(sum, word(bytes))), last)
}

impl Memo {
    /// For the text of fields with these needs; None when it hardly ever repeats.
    pub fn of<'a>(needs: impl Iterator<Item = &'a Need>) -> Option<Memo> {
        Key::of(needs).map(|key| Memo { key, entries: Default::default() })
    }

    /// Appends what `write` would; it must append the same for the same key.
    #[inline]
    pub fn write(
        &mut self,
        event: &Event<'_>,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let container = if self.key.container { event.slots.container } else { 0 };
        let Some(sample) = event.sample.get(self.key.sample.clone()) else { return write(out) };
        let version = Some(event.world.version());
        let place = (hash(container, sample) >> 32) as usize % ENTRIES;
        let entry = &mut self.entries[place];
        // An empty one has no place that could be read: comparing it takes the processor long.
        let same = sample.is_empty() || entry.sample == sample;
        if same && entry.version == version && entry.container == container {
            out.extend_from_slice(&entry.text);
            return;
        }
        let start = out.len();
        write(out);
        (entry.version, entry.container) = (version, container);
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
        let key = |needs: &[Need]| Key::of(needs.iter());
        let (a, b) = (Need::Sample(8..16), Need::Sample(100..104));
        let both = Key { sample: 8..104, container: true };
        assert_eq!(key(&[a.clone(), Need::Nothing, Need::Container, b]), Some(both));
        assert_eq!(key(&[Need::Nothing]), Some(Key::default()));
        assert_eq!(key(&[a.clone(), Need::Anything]), None);
        assert_eq!(key(&[a, Need::Sample(1000..1001)]), None);
    }
}
