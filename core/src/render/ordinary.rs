//! Whether a text can be copied as it is: printable ASCII without quotes and backslashes.

const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Nonzero when one of the eight bytes is zero. (A borrow can only add to what another byte has
/// set.)
#[inline(always)]
fn zero(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

/// Nonzero when one of the eight bytes is not ordinary.
#[inline(always)]
fn special(word: u64) -> u64 {
    let control = word.wrapping_sub(LOW * 0x20) & !word;
    let given = |byte: u8| zero(word ^ (LOW * u64::from(byte)));
    ((control | word) & HIGH) | given(b'"') | given(b'\\') | given(0x7f)
}

#[inline]
pub fn is_ordinary(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<8>() else {
        let ordinary = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
        return text.iter().all(ordinary);
    };
    let words = text.as_chunks::<8>().0.iter().chain([last]);
    words.fold(0, |found, word| found | special(u64::from_ne_bytes(*word))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_at_each_place() {
        for length in 1..=20 {
            for place in 0..length {
                for byte in 0..=255u8 {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    let wanted = (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
                    assert_eq!(is_ordinary(&text), wanted, "{byte} at {place} of {length}");
                }
            }
        }
        assert!(is_ordinary(b""));
    }

    #[test]
    fn two_bytes_next_to_each_other() {
        for (a, b) in (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| (a, b))) {
            let text = [b'~', a, b, b' ', b'~', b' ', b'~', b' '];
            let wanted = is_ordinary(&[a]) && is_ordinary(&[b]);
            assert_eq!(is_ordinary(&text), wanted, "{a} {b}");
        }
    }
}
