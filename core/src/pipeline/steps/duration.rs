//! Amounts: bytes in SI units, durations as Go prints them.

use std::io::Write;

/// `9 B`, `1.6 MB`, `81 MB`: base 1000, one decimal below ten.
pub fn bytes(n: u64, out: &mut Vec<u8>) {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if n < 10 {
        let _ = write!(out, "{n} B");
        return;
    }
    let exponent = ((n as f64).ln() / 1000f64.ln()).floor() as usize;
    let unit = exponent.min(UNITS.len() - 1);
    let value = (n as f64 / 1000f64.powi(unit as i32) * 10.0 + 0.5).floor() / 10.0;
    let _ = if value < 10.0 {
        write!(out, "{value:.1} {}", UNITS[unit])
    } else {
        write!(out, "{value:.0} {}", UNITS[unit])
    };
}

/// Nanoseconds as `999ns`, `1.50µs`, `1.50ms`, then hours, minutes and seconds.
pub fn duration(ns: u64, out: &mut Vec<u8>) {
    let _ = match ns {
        0..1_000 => write!(out, "{ns}ns"),
        1_000..1_000_000 => write!(out, "{:.2}µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => write!(out, "{:.2}ms", ns as f64 / 1e6),
        _ => return long(ns as i64, out),
    };
}

/// A signed duration, as 2^63 and more are read as negative numbers: hours, minutes and seconds, or
/// one unit below a second, with no more decimals than needed.
fn long(ns: i64, out: &mut Vec<u8>) {
    if ns < 0 {
        out.push(b'-');
    }
    let ns = ns.unsigned_abs();
    match ns {
        0..1_000 => return out.extend_from_slice(format!("{ns}ns").as_bytes()),
        1_000..1_000_000 => return decimal(ns, 3, "µs", out),
        1_000_000..1_000_000_000 => return decimal(ns, 6, "ms", out),
        _ => {}
    }
    let (seconds, fraction) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        let _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(out, "{minutes}m");
    }
    decimal(seconds % 60 * 1_000_000_000 + fraction, 9, "s", out);
}

/// `n` divided by ten to the power of `places`, without trailing zeros.
fn decimal(n: u64, places: usize, unit: &str, out: &mut Vec<u8>) {
    let power = 10u64.pow(places as u32);
    let _ = write!(out, "{}", n / power);
    if !n.is_multiple_of(power) {
        let digits = format!("{:0places$}", n % power);
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.extend_from_slice(unit.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: fn(u64, &mut Vec<u8>), n: u64) -> String {
        let mut out = Vec::new();
        f(n, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn byte_amounts() {
        for (n, want) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (3_100_000, "3.1 MB"),
            (123_456_789, "124 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(text(bytes, n), want);
        }
    }

    #[test]
    fn durations() {
        for (n, want) in [
            (0, "0ns"),
            (999, "999ns"),
            (1500, "1.50µs"),
            (1_500_000, "1.50ms"),
            (1_000_000_000, "1s"),
            (61_000_000_000, "1m1s"),
            (90_061_500_000_000, "25h1m1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (1 << 63, "-2562047h47m16.854775808s"),
            (u64::MAX - 671_088_640, "-671.088641ms"),
            (u64::MAX - 1_499, "-1.5µs"),
            (u64::MAX, "-1ns"),
        ] {
            assert_eq!(text(duration, n), want);
        }
    }
}
