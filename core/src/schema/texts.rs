//! Samples without the bytes that nothing reads.
//!
//! Of a text field only the text is kept: a path of ten bytes has a field of hundreds.

use std::ops::Range;

use super::event::until_nul;

/// Bytes of a text's length.
const LENGTH: usize = 4;

/// The text fields of a data source that are stored as long as their text is.
#[derive(Debug, Default)]
pub struct Texts {
    /// Samples that are shorter are kept as they are.
    sample_size: usize,
    /// In order; they do not overlap with each other or with other fields.
    places: Vec<Range<usize>>,
}

impl Texts {
    pub fn new(sample_size: usize, mut places: Vec<Range<usize>>) -> Texts {
        places.sort_by_key(|place| place.start);
        Texts { sample_size, places }
    }

    /// The most bytes that a sample of `length` bytes takes.
    pub fn most(&self, length: usize) -> usize {
        length + LENGTH * self.places.len()
    }

    /// The same, of a sample that is the struct only.
    pub fn most_of_struct(&self) -> usize {
        self.most(self.sample_size)
    }

    fn cuts(&self, length: usize) -> bool {
        length >= self.sample_size && !self.places.is_empty()
    }

    pub fn store(&self, sample: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        if self.cuts(sample.len()) {
            for place in &self.places {
                out.extend_from_slice(&sample[at..place.start]);
                let text = until_nul(&sample[place.clone()]);
                out.extend_from_slice(&(text.len() as u32).to_ne_bytes());
                out.extend_from_slice(text);
                at = place.end;
            }
        }
        out.extend_from_slice(&sample[at..]);
    }

    /// Bytes behind a text are those of an earlier sample: nothing reads them.
    pub fn restore<'a>(
        &self,
        stored: &'a [u8],
        length: usize,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        if !self.cuts(length) {
            return stored;
        }
        if scratch.len() < length {
            scratch.resize(length, 0);
        }
        let (mut rest, mut at) = (stored, 0);
        let mut next = |count: usize| {
            let (head, behind) = rest.split_at(count);
            rest = behind;
            head
        };
        for place in &self.places {
            scratch[at..place.start].copy_from_slice(next(place.start - at));
            let count = word(next(LENGTH)) as usize;
            let end = place.start + count;
            scratch[place.start..end].copy_from_slice(next(count));
            if end < place.end {
                scratch[end] = 0;
            }
            at = place.end;
        }
        scratch[at..length].copy_from_slice(next(length - at));
        &scratch[..length]
    }
}

/// Four bytes as a number.
pub fn word(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_ne_bytes)
}
