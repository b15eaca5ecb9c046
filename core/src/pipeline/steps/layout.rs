//! Time layouts in Go's notation: the reference time spelled as it should look.

use super::digits::push_digits;
use crate::errors::{Error, Result};

const MAX_LAYOUT: usize = 256;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment on a calendar at a fixed offset from UTC.
pub struct Civil {
    year: i64,
    month: u32,
    day: u32,
    weekday: u32,
    year_day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    ns: u32,
    zone_s: i32,
}

impl Civil {
    pub fn of(unix_s: i64, zone_s: i32, ns: u32) -> Civil {
        let local = unix_s.saturating_add(i64::from(zone_s));
        let (days, of_day) = (local.div_euclid(86400), local.rem_euclid(86400) as u32);
        // Days since 0000-03-01, in eras of 400 years: a year that begins in March ends with its
        // leap day.
        let z = days + 719_468;
        let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        Civil {
            year,
            month,
            day,
            weekday: (days + 4).rem_euclid(7) as u32,
            year_day: BEFORE[month as usize - 1] + day + u32::from(leap && month > 2),
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            ns,
            zone_s,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    Year,
    Year2,
    Month,
    Month1,
    MonthName,
    MonthShort,
    Day,
    Day1,
    DaySpace,
    YearDay,
    DayName,
    DayShort,
    Hour,
    Hour12,
    Hour12One,
    Minute,
    Minute1,
    Second,
    Second1,
    Upper,
    Lower,
    /// Fraction: separator, digits, and whether trailing zeros are cut.
    Fraction(char, usize, bool),
    /// Zone: `Z` for UTC, colon, seconds or hours only.
    Zone {
        zulu: bool,
        colon: bool,
        minutes: bool,
    },
    ZoneName,
}

/// A token that begins with another one comes before it.
const TOKENS: &[(&str, Token)] = &[
    ("2006", Token::Year),
    ("January", Token::MonthName),
    ("Jan", Token::MonthShort),
    ("Monday", Token::DayName),
    ("Mon", Token::DayShort),
    ("MST", Token::ZoneName),
    ("002", Token::YearDay),
    ("01", Token::Month),
    ("02", Token::Day),
    ("03", Token::Hour12),
    ("04", Token::Minute),
    ("05", Token::Second),
    ("06", Token::Year2),
    ("15", Token::Hour),
    ("Z07:00", Token::Zone { zulu: true, colon: true, minutes: true }),
    ("Z0700", Token::Zone { zulu: true, colon: false, minutes: true }),
    ("Z07", Token::Zone { zulu: true, colon: false, minutes: false }),
    ("-07:00", Token::Zone { zulu: false, colon: true, minutes: true }),
    ("-0700", Token::Zone { zulu: false, colon: false, minutes: true }),
    ("-07", Token::Zone { zulu: false, colon: false, minutes: false }),
    ("PM", Token::Upper),
    ("pm", Token::Lower),
    ("_2", Token::DaySpace),
    ("1", Token::Month1),
    ("2", Token::Day1),
    ("3", Token::Hour12One),
    ("4", Token::Minute1),
    ("5", Token::Second1),
];

#[derive(Clone, Debug)]
pub struct Layout {
    tokens: Vec<Token>,
    default: bool,
}

const DATE_AND_TIME: &str = "2006-01-02T15:04:05";
const ZONE: &str = "Z07:00";
const DEFAULT: &str = "2006-01-02T15:04:05.000000000Z07:00";

/// `.000`, `,999` and the like: a separator, then equal digits that no other digit follows.
fn fraction(rest: &str) -> Option<(Token, usize)> {
    let separator = rest.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = rest[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let run = rest[1..].chars().take_while(|c| *c == digit).count();
    let ends = !rest[1 + run..].starts_with(|c: char| c.is_ascii_digit());
    (ends && run <= 9).then_some((Token::Fraction(separator, run, digit == '9'), 1 + run))
}

impl Layout {
    /// None is the default layout.
    pub fn parse(layout: Option<&str>) -> Result<Layout> {
        let layout = layout.filter(|l| !l.is_empty()).unwrap_or(DEFAULT);
        if layout.len() > MAX_LAYOUT {
            return Err(Error::plan(format!("a time layout has more than {MAX_LAYOUT} bytes")));
        }
        Ok(Layout { tokens: tokens(layout), default: layout == DEFAULT })
    }

    pub fn is_default(&self) -> bool {
        self.default
    }

    pub fn date_and_time() -> Layout {
        Layout { tokens: tokens(DATE_AND_TIME), default: false }
    }

    pub fn zone() -> Layout {
        Layout { tokens: tokens(ZONE), default: false }
    }

    pub fn write(&self, t: &Civil, out: &mut Vec<u8>) {
        for token in &self.tokens {
            write_token(token, t, out);
        }
    }
}

fn tokens(layout: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        let found = TOKENS
            .iter()
            .find(|(text, _)| rest.starts_with(text))
            .map(|(text, token)| (token.clone(), text.len()))
            .or_else(|| fraction(rest));
        match (found, tokens.last_mut()) {
            (Some((token, length)), _) => {
                tokens.push(token);
                rest = &rest[length..];
                continue;
            }
            (None, Some(Token::Text(text))) => text.push(c),
            (None, _) => tokens.push(Token::Text(c.to_string())),
        }
        rest = &rest[c.len_utf8()..];
    }
    tokens
}

fn write_token(token: &Token, t: &Civil, out: &mut Vec<u8>) {
    let plain = |n: u32, out: &mut Vec<u8>| {
        out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    };
    let month = MONTHS[t.month as usize - 1];
    let day = DAYS[t.weekday as usize];
    let hour12 = (t.hour + 11) % 12 + 1;
    match token {
        Token::Text(text) => out.extend_from_slice(text.as_bytes()),
        Token::Year if (0..10_000).contains(&t.year) => push_digits(t.year as u32, 4, out),
        Token::Year => out.extend_from_slice(itoa::Buffer::new().format(t.year).as_bytes()),
        Token::Year2 => push_digits(t.year.rem_euclid(100) as u32, 2, out),
        Token::Month => push_digits(t.month, 2, out),
        Token::Month1 => plain(t.month, out),
        Token::MonthName => out.extend_from_slice(month.as_bytes()),
        Token::MonthShort => out.extend_from_slice(&month.as_bytes()[..3]),
        Token::Day => push_digits(t.day, 2, out),
        Token::Day1 => plain(t.day, out),
        Token::DaySpace => {
            if t.day < 10 {
                out.push(b' ');
            }
            plain(t.day, out);
        }
        Token::YearDay => push_digits(t.year_day, 3, out),
        Token::DayName => out.extend_from_slice(day.as_bytes()),
        Token::DayShort => out.extend_from_slice(&day.as_bytes()[..3]),
        Token::Hour => push_digits(t.hour, 2, out),
        Token::Hour12 => push_digits(hour12, 2, out),
        Token::Hour12One => plain(hour12, out),
        Token::Minute => push_digits(t.minute, 2, out),
        Token::Minute1 => plain(t.minute, out),
        Token::Second => push_digits(t.second, 2, out),
        Token::Second1 => plain(t.second, out),
        Token::Upper => out.extend_from_slice(if t.hour >= 12 { b"PM" } else { b"AM" }),
        Token::Lower => out.extend_from_slice(if t.hour >= 12 { b"pm" } else { b"am" }),
        Token::Fraction(separator, digits, trim) => {
            let mut text = Vec::with_capacity(9);
            push_digits(t.ns / 10u32.pow(9 - *digits as u32), *digits, &mut text);
            while *trim && text.last() == Some(&b'0') {
                text.pop();
            }
            if !text.is_empty() {
                out.push(*separator as u8);
                out.extend_from_slice(&text);
            }
        }
        Token::Zone { zulu, colon, minutes } => {
            if *zulu && t.zone_s == 0 {
                out.push(b'Z');
                return;
            }
            let offset = t.zone_s.unsigned_abs() / 60;
            out.push(if t.zone_s < 0 { b'-' } else { b'+' });
            push_digits(offset / 60, 2, out);
            if *colon {
                out.push(b':');
            }
            if *minutes {
                push_digits(offset % 60, 2, out);
            }
        }
        Token::ZoneName if t.zone_s == 0 => out.extend_from_slice(b"UTC"),
        Token::ZoneName => {
            write_token(
                &Token::Zone { zulu: false, colon: false, minutes: t.zone_s % 3600 != 0 },
                t,
                out,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(layout: &str, unix_s: i64, zone_s: i32, ns: u32) -> String {
        let mut out = Vec::new();
        Layout::parse(Some(layout)).unwrap().write(&Civil::of(unix_s, zone_s, ns), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(show("2006-01-02", 951_782_400, 0, 0), "2000-02-29");
        assert_eq!(show("Mon Jan _2 15:04:05 MST 2006", 0, 0, 0), "Thu Jan  1 00:00:00 UTC 1970");
        assert_eq!(
            show("Monday, 02-Jan-06 3:04PM", 1_000_000_000, 0, 0),
            "Sunday, 09-Sep-01 1:46AM"
        );
        assert_eq!(show("002", 1_709_251_200, 0, 0), "061");
        assert_eq!(show("15:04:05 -0700", 0, -12_600, 0), "20:30:00 -0330");
    }

    #[test]
    fn fractions() {
        assert_eq!(show("05.000", 1, 0, 1_234_567), "01.001");
        assert_eq!(show("05.999999", 1, 0, 120_000_000), "01.12");
        assert_eq!(show("05.999", 1, 0, 0), "01");
        assert_eq!(show("end. 05.0001", 1, 0, 5), "end. 01.0001");
    }
}
