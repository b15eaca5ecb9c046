//! Samples that grow: libFuzzer's own changes make small samples, and costs need large ones.

use libfuzzer_sys::fuzzer_mutate;

/// Of so many changes one repeats a part, and one writes a size.
const REPEATED: u32 = 8;
const SIZED: u32 = 8;
const MAX_PART: u32 = 12;
const MAX_TIMES: u32 = 14;

/// xorshift32 (Marsaglia, "Xorshift RNGs"): what *seed* decides is decided again from it.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit.max(1)
    }

    /// 1 to 2^`octaves`, small ones more often.
    fn small(&mut self, octaves: u32) -> usize {
        let limit = 1 << self.below(octaves as usize + 1);
        1 + self.below(limit)
    }
}

/// Change `data[..size]` in place, and return its new size, at most `max_size`.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(seed | 1);
    let size = size.min(max_size);
    if size > 0 && random.next().is_multiple_of(REPEATED) {
        return repeat(data, size, max_size, &mut random);
    }
    if size >= 8 && random.next().is_multiple_of(SIZED) {
        write_size(&mut data[..size], &mut random);
        return size;
    }
    fuzzer_mutate(data, size, max_size)
}

/// Insert a part of the sample after itself, many times.
fn repeat(data: &mut [u8], size: usize, max_size: usize, random: &mut Random) -> usize {
    let start = random.below(size);
    let part = random.small(MAX_PART).min(size - start);
    let end = start + part;
    let room = (max_size - size) / part;
    let inserted = part * random.small(MAX_TIMES).min(room);
    data.copy_within(end..size, end + inserted);
    for at in (end..end + inserted).step_by(part) {
        data.copy_within(start..end, at);
    }
    size + inserted
}

/// Write what may be a size, a count or an offset somewhere: formats name their parts by these.
fn write_size(data: &mut [u8], random: &mut Random) {
    let size = data.len();
    let at = random.below(size - 7) & !3;
    let value = match random.below(4) {
        0 => size,
        1 => size - at,
        2 => random.below(size),
        _ => size / random.small(6),
    };
    let value = (value as u64).to_le_bytes();
    let width = [2, 4, 8][random.below(3)];
    data[at..at + width].copy_from_slice(&value[..width]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_repeated_in_place() {
        for seed in 1..2000 {
            let mut data = [0u8; 64];
            data[..4].copy_from_slice(b"abcd");
            let size = repeat(&mut data, 4, 64, &mut Random(seed));
            assert!((4..=64).contains(&size));
            assert!(data[..size].starts_with(b"a"));
            assert!(data[..size].ends_with(b"d"));
            assert!(data[..size].iter().all(|b| b"abcd".contains(b)));
        }
    }

    #[test]
    fn sizes_are_written_inside_of_the_sample() {
        for seed in 1..2000 {
            let mut data = [0xffu8; 8 + 5];
            write_size(&mut data, &mut Random(seed));
            assert_ne!(data, [0xff; 13]);
        }
    }
}
