//! One YAML string: plain where it reads back as itself, else quoted or literal.

use std::io::Write;
use std::sync::LazyLock;

use regex::Regex;

use super::unicode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// Words that YAML 1.1 reads as null, booleans, infinities or a merge.
const WORDS: &[&str] = &[
    "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N",
    "no", "No", "NO", "off", "Off", "OFF", "true", "True", "TRUE", "false", "False", "FALSE",
    ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf",
    "-.INF", "<<",
];

const LONGEST_WORD: usize = 5;

/// Numbers (also with underscores), base 60 numbers, dates and times.
static OTHER_TYPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?x)^(?:
            [-+]?(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?
          | [-+]?0[bB][01_]+ | [-+]?0[oO]?[0-7_]+ | [-+]?0[xX][0-9a-fA-F_]+
          | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?
          | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}
          | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|\ )[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}
            (?:\.[0-9]+)?(?:Z|[-+][0-9]{2}:[0-9]{2})?
        )$",
    )
    .ok()
});

fn reads_as_string(text: &str) -> bool {
    if text.len() <= LONGEST_WORD && WORDS.contains(&text) {
        return false;
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.')) {
        return true;
    }
    OTHER_TYPES.as_ref().is_some_and(|r| !r.is_match(text))
}

/// Printable in the sense of YAML emitters that stay in the basic plane; without line
/// breaks that plain text would fold, and without what deceives the eye on a terminal.
fn printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && !unicode::is_invisible(c)
}

fn style(text: &str) -> Style {
    let multiline = text.contains('\n');
    let plain_ascii = text.bytes().fold(true, |all, b| all & (0x20..0x7f).contains(&b));
    if !plain_ascii && !text.chars().all(printable) {
        return Style::Double;
    }
    let space_then_break = text.contains(" \n");
    if multiline {
        let block = !space_then_break && !text.ends_with(' ');
        return if block { Style::Literal } else { Style::Double };
    }
    if !reads_as_string(text) {
        return Style::Double;
    }
    let padded = text.starts_with(' ') || text.ends_with(' ');
    if padded || indicators(text) {
        return Style::Single;
    }
    Style::Plain
}

/// True when plain text would be taken for structure or a comment.
fn indicators(text: &str) -> bool {
    if text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let bytes = text.as_bytes();
    let space_or_end = |i: usize| bytes.get(i).is_none_or(|b| *b == b' ');
    match bytes[0] {
        b'#' | b',' | b'[' | b']' | b'{' | b'}' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\''
        | b'"' | b'%' | b'@' | b'`' => return true,
        b'?' | b':' | b'-' if space_or_end(1) => return true,
        // YAML 1.1 gives it a type of its own, which readers refuse.
        b'=' if bytes.len() == 1 => return true,
        _ => {}
    }
    (1..bytes.len()).any(|i| match bytes[i] {
        b':' => space_or_end(i + 1),
        b'#' => bytes[i - 1] == b' ',
        _ => false,
    })
}

/// Invalid UTF-8 became U+FFFD on the way through JSON; here too, a byte each.
fn lossy(text: &[u8]) -> String {
    let mut clean = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        clean.push_str(chunk.valid());
        clean.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    clean
}

/// A value; `depth` is the nesting of a literal block's lines.
pub fn string(raw: &[u8], depth: usize, out: &mut Vec<u8>) {
    let owned;
    let text = match std::str::from_utf8(raw) {
        Ok(text) => text,
        Err(_) => {
            owned = lossy(raw);
            &owned
        }
    };
    match style(text) {
        Style::Plain => out.extend_from_slice(text.as_bytes()),
        Style::Single => single(text, out),
        Style::Double => double(text, out),
        Style::Literal => literal(text, depth, out),
    }
}

/// A mapping key: never a block.
pub fn key(raw: &[u8], out: &mut Vec<u8>) {
    let text = lossy(raw);
    match style(&text) {
        Style::Plain => out.extend_from_slice(text.as_bytes()),
        Style::Single => single(&text, out),
        Style::Double | Style::Literal => double(&text, out),
    }
}

fn single(text: &str, out: &mut Vec<u8>) {
    out.push(b'\'');
    out.extend_from_slice(text.replace('\'', "''").as_bytes());
    out.push(b'\'');
}

fn double(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        let short: &[u8] = match c {
            '\0' => b"\\0",
            '\x07' => b"\\a",
            '\x08' => b"\\b",
            '\t' => b"\\t",
            '\n' => b"\\n",
            '\x0b' => b"\\v",
            '\x0c' => b"\\f",
            '\r' => b"\\r",
            '\x1b' => b"\\e",
            '"' => b"\\\"",
            '\\' => b"\\\\",
            '\u{85}' => b"\\N",
            '\u{2028}' => b"\\L",
            '\u{2029}' => b"\\P",
            c if printable(c) => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            c => {
                let code = u32::from(c);
                let _ = match code {
                    0..0x100 => write!(out, "\\x{code:02X}"),
                    0x100..0x10000 => write!(out, "\\u{code:04X}"),
                    _ => write!(out, "\\U{code:08X}"),
                };
                continue;
            }
        };
        out.extend_from_slice(short);
    }
    out.push(b'"');
}

fn literal(text: &str, depth: usize, out: &mut Vec<u8>) {
    out.push(b'|');
    if text.starts_with([' ', '\n']) {
        out.push(b'2');
    }
    let body = match text.strip_suffix('\n') {
        None => {
            out.push(b'-');
            text
        }
        Some(rest) => {
            if rest.is_empty() || rest.ends_with('\n') {
                out.push(b'+');
            }
            rest
        }
    };
    for line in body.split('\n') {
        out.push(b'\n');
        if !line.is_empty() {
            out.resize(out.len() + 2 * depth, b' ');
            out.extend_from_slice(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &[u8]) -> String {
        let mut out = Vec::new();
        string(text, 1, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quotes_only_when_needed() {
        for (text, want) in [
            ("", r#""""#),
            ("O_RDONLY|O_CLOEXEC", "O_RDONLY|O_CLOEXEC"),
            ("/etc/ld.so.cache", "/etc/ld.so.cache"),
            ("----------", "'----------'"),
            ("-rw-r--r--", "-rw-r--r--"),
            ("0:00.150", r#""0:00.150""#),
            ("2026-11-23T05:46:30.202146410Z", r#""2026-11-23T05:46:30.202146410Z""#),
            ("81 MB", "81 MB"),
            ("true", r#""true""#),
            ("n", r#""n""#),
            ("123", r#""123""#),
            ("1_000", r#""1_000""#),
            ("0x1f", r#""0x1f""#),
            ("1e3", r#""1e3""#),
            ("a: b", "'a: b'"),
            ("a #b", "'a #b'"),
            ("a:b", "a:b"),
            ("ends:", "'ends:'"),
            ("it's", "it's"),
            ("'x", "'''x'"),
            (" x", "' x'"),
            ("* x", "'* x'"),
            ("- x", "'- x'"),
            ("a\tb", r#""a\tb""#),
            ("\x1b[0m\"", r#""\e[0m\"""#),
            ("sh\u{a0}-c", "sh\u{a0}-c"),
            ("😀", r#""\U0001F600""#),
            ("a\nb", "|-\n  a\n  b"),
            ("a\n", "|\n  a"),
            ("a\n\n", "|+\n  a\n"),
            (" a\nb", "|2-\n   a\n  b"),
            ("a \nb", r#""a \nb""#),
            ("\u{202e}x", r#""\u202Ex""#),
        ] {
            assert_eq!(show(text.as_bytes()), want, "{text:?}");
        }
        assert_eq!(show(b"\xff"), "\u{fffd}");
    }
}
