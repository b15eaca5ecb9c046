//! Decimal numbers of fixed width.

/// The last `width` decimal digits of `n`, zero-padded.
pub fn push_digits(mut n: u32, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 10];
    for place in digits[..width].iter_mut().rev() {
        *place = b'0' + (n % 10) as u8;
        n /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}
