//! Boot time to wall clock, and its text.

use std::time::{SystemTime, UNIX_EPOCH};

use super::digits::push_digits;
use super::layout::{Civil, Layout};
use crate::schema::wall::Zone;

const NS: i64 = 1_000_000_000;

/// Converts and formats times. The text of the last second is remembered: events of one second
/// share all of it but the fraction.
#[derive(Debug, Default)]
pub struct Clock {
    second: Option<(i64, Zone)>,
    /// `2006-01-02T15:04:05` of that second.
    prefix: Vec<u8>,
    /// `Z` or `+02:00`.
    suffix: Vec<u8>,
}

impl Clock {
    /// 0 means now: eBPF programs write it where the kernel has no bpf_ktime_get_boot_ns().
    pub fn wall(&self, boot_ns: u64, offset_ns: i64) -> i64 {
        if boot_ns != 0 {
            return (boot_ns as i64).wrapping_add(offset_ns);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
    }

    pub fn format(&mut self, wall_ns: i64, zone: Zone, layout: &Layout, out: &mut Vec<u8>) {
        let (second, fraction) = (wall_ns.div_euclid(NS), wall_ns.rem_euclid(NS) as u32);
        if !layout.is_default() {
            layout.write(&Civil::of(second, zone.at(second), fraction), out);
            return;
        }
        if self.second != Some((second, zone)) {
            let civil = Civil::of(second, zone.at(second), 0);
            self.prefix.clear();
            self.suffix.clear();
            Layout::date_and_time().write(&civil, &mut self.prefix);
            Layout::zone().write(&civil, &mut self.suffix);
            self.second = Some((second, zone));
        }
        out.extend_from_slice(&self.prefix);
        out.push(b'.');
        push_digits(fraction, 9, out);
        out.extend_from_slice(&self.suffix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ns: i64, zone: i32, layout: Option<&str>) -> String {
        let mut out = Vec::new();
        Clock::default().format(ns, Zone::Fixed(zone), &Layout::parse(layout).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn default_layout_has_nine_digits() {
        assert_eq!(text(1_795_412_782_929_425_421, 0, None), "2026-11-23T05:46:22.929425421Z");
        assert_eq!(
            text(1_795_412_782_000_000_001, 7200, None),
            "2026-11-23T07:46:22.000000001+02:00"
        );
        assert_eq!(text(-1, -1800, None), "1969-12-31T23:29:59.999999999-00:30");
    }

    #[test]
    fn the_cache_follows_the_second() {
        let mut clock = Clock::default();
        let layout = Layout::parse(None).unwrap();
        let mut out = Vec::new();
        for (ns, zone) in [(NS, 0), (NS + 5, 0), (2 * NS, 0), (2 * NS, 60)] {
            clock.format(ns, Zone::Fixed(zone), &layout, &mut out);
            out.push(b'\n');
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "1970-01-01T00:00:01.000000000Z\n1970-01-01T00:00:01.000000005Z\n\
             1970-01-01T00:00:02.000000000Z\n1970-01-01T00:01:02.000000000+00:01\n"
        );
    }

    #[test]
    fn zero_is_now() {
        assert!(Clock::default().wall(0, 0) > 1_700_000_000 * NS);
        assert_eq!(Clock::default().wall(5, 10), 15);
    }
}
