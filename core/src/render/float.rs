//! Floating point numbers with the fewest digits, in JavaScript's and in Go's notation.

/// With fewer digits than these, two shortest texts are never equally near to the number: half a
/// unit of the last digit is more than the precision of the type.
const TIES_F32: usize = 7;
const TIES_F64: usize = 16;

/// Scientific notation with the fewest digits that read back as the same number. Of two texts that
/// are equally near the one with an even last digit is taken; Rust takes the greater.
pub fn shortest32(f: f32) -> String {
    even(format!("{f:e}"), TIES_F32, |n| format!("{f:.n$e}"), |text| text.parse() == Ok(f))
}

/// As [`shortest32`].
pub fn shortest64(f: f64) -> String {
    even(format!("{f:e}"), TIES_F64, |n| format!("{f:.n$e}"), |text| text.parse() == Ok(f))
}

fn even(
    text: String,
    ties: usize,
    rounded: impl Fn(usize) -> String,
    reads_back: impl Fn(&str) -> bool,
) -> String {
    let count = text.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    if count < ties {
        return text;
    }
    let nearest = rounded(count - 1);
    if reads_back(&nearest) {
        nearest
    } else {
        text
    }
}

/// The digits, and the exponent of the first.
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    exponent: i32,
}

fn digits(scientific: &str) -> Digits {
    let (negative, text) =
        scientific.strip_prefix('-').map_or((false, scientific), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    Digits {
        negative,
        digits: mantissa.bytes().filter(u8::is_ascii_digit).collect(),
        exponent: exponent.parse().unwrap_or(0),
    }
}

fn write(d: &Digits, positional: bool, pad: usize, out: &mut Vec<u8>) {
    if d.negative {
        out.push(b'-');
    }
    let count = d.digits.len() as i32;
    if !positional {
        out.push(d.digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&d.digits[1..]);
        }
        out.extend_from_slice(if d.exponent < 0 { b"e-" } else { b"e+" });
        out.extend_from_slice(format!("{:0pad$}", d.exponent.unsigned_abs()).as_bytes());
        return;
    }
    let zeros = |n: i32, out: &mut Vec<u8>| out.resize(out.len() + n.max(0) as usize, b'0');
    if d.exponent < 0 {
        out.extend_from_slice(b"0.");
        zeros(-d.exponent - 1, out);
        out.extend_from_slice(&d.digits);
        return;
    }
    let whole = (d.exponent + 1).min(count) as usize;
    out.extend_from_slice(&d.digits[..whole]);
    zeros(d.exponent + 1 - count, out);
    if whole < d.digits.len() {
        out.push(b'.');
        out.extend_from_slice(&d.digits[whole..]);
    }
}

/// As JavaScript's `Number.toString`: exponents below 1e-6 and from 1e21 on.
pub fn es6(scientific: &str, out: &mut Vec<u8>) {
    let d = digits(scientific);
    write(&d, (-6..21).contains(&d.exponent) || d.digits == b"0", 1, out);
}

/// As Go's `strconv` with format `g` and shortest precision: exponents below
/// 1e-4 and from 1e6 on.
pub fn go(scientific: &str, out: &mut Vec<u8>) {
    let d = digits(scientific);
    write(&d, (-4..6).contains(&d.exponent) || d.digits == b"0", 2, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: f64) -> String {
        let mut out = Vec::new();
        es6(&shortest64(f), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn javascript_notation() {
        for (f, want) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (-2.0, "-2"),
            (4.986658917132754, "4.986658917132754"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e22, "1.25e+22"),
            (0.000001, "0.000001"),
            (1e-7, "1e-7"),
            (123.456, "123.456"),
            (131_072.000_244_140_63, "131072.00024414062"),
            (2f64.powi(-24), "5.960464477539063e-8"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(text(f), want);
        }
    }
}
