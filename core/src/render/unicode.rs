//! Which characters may reach a terminal as they are.

use std::sync::LazyLock;

/// Letters, marks, numbers, punctuation and symbols, without those that draw nothing.
/// Format characters (bidirectional overrides, joiners) belong to none of these.
const PRINTABLE: &str = r"[[\p{L}\p{M}\p{N}\p{P}\p{S}]--\p{Default_Ignorable_Code_Point}]";

/// Characters that draw nothing or reorder what is around them.
const INVISIBLE: &str = r"[\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]";

type Ranges = Vec<(u32, u32)>;

static PRINTABLE_RANGES: LazyLock<Ranges> = LazyLock::new(|| ranges(PRINTABLE));
static INVISIBLE_RANGES: LazyLock<Ranges> = LazyLock::new(|| ranges(INVISIBLE));

/// The code points of a character class, sorted.
fn ranges(class: &str) -> Ranges {
    let mut ranges = Vec::new();
    if let Ok(hir) = regex_syntax::parse(class) {
        if let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) =
            hir.kind()
        {
            ranges.extend(class.iter().map(|r| (u32::from(r.start()), u32::from(r.end()))));
        }
    }
    ranges
}

fn contains(ranges: &Ranges, c: char) -> bool {
    let code = u32::from(c);
    let at = ranges.partition_point(|(_, end)| *end < code);
    ranges.get(at).is_some_and(|(start, _)| *start <= code)
}

pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    contains(&PRINTABLE_RANGES, c)
}

pub fn is_invisible(c: char) -> bool {
    !c.is_ascii() && contains(&INVISIBLE_RANGES, c)
}

/// `text` as the inside of a Go string literal: what is not printable is escaped.
pub fn quote(text: &[u8], out: &mut Vec<u8>) {
    use std::io::Write;
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let short: &[u8] = match c {
                '"' => b"\\\"",
                '\\' => b"\\\\",
                '\x07' => b"\\a",
                '\x08' => b"\\b",
                '\x0c' => b"\\f",
                '\n' => b"\\n",
                '\r' => b"\\r",
                '\t' => b"\\t",
                '\x0b' => b"\\v",
                c if is_printable(c) => {
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
                c => {
                    let code = u32::from(c);
                    let _ = match code {
                        0..0x80 => write!(out, "\\x{code:02x}"),
                        0x80..0x10000 => write!(out, "\\u{code:04x}"),
                        _ => write!(out, "\\U{code:08x}"),
                    };
                    continue;
                }
            };
            out.extend_from_slice(short);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Escapes characters of the JSON text from `start` on that control a terminal or that it hides:
/// DEL, C1 controls, format and invisible characters. In JSON they occur only in strings.
pub fn escape_in_json(out: &mut Vec<u8>, start: usize) {
    if out[start..].iter().all(|b| *b < 0x7f) {
        return;
    }
    let text = String::from_utf8_lossy(&out[start..]).into_owned();
    out.truncate(start);
    for c in text.chars() {
        if !c.is_control() && !is_invisible(c) || c == '\n' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
        }
    }
}

/// Escapes what controls a terminal, or what it hides, in the lines of text from `start` on. Ends of
/// lines and tabulators stay.
pub fn escape_in_text(out: &mut Vec<u8>, start: usize) {
    use std::io::Write;
    if out[start..].iter().all(|b| matches!(b, b' '..=b'~' | b'\n' | b'\t')) {
        return;
    }
    let text = out.split_off(start);
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let _ = match u32::from(c) {
                _ if matches!(c, '\n' | '\t') || !c.is_control() && !is_invisible(c) => {
                    write!(out, "{c}")
                }
                code @ 0..0x100 => write!(out, "\\x{code:02x}"),
                code @ 0..0x10000 => write!(out, "\\u{code:04x}"),
                code => write!(out, "\\U{code:08x}"),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &[u8]) -> String {
        let mut out = Vec::new();
        quote(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quotes_as_go() {
        assert_eq!(show(b"we\"ird name\ttab\\"), r#"we\"ird name\ttab\\"#);
        assert_eq!(show(b"\xff\xfe-\xc3\xa9"), r"\xff\xfe-é");
        assert_eq!(show(b"\x00\x1b[0m\x7f"), r"\x00\x1b[0m\x7f");
        assert_eq!(show("\u{85}\u{9b}".as_bytes()), r"\u0085\u009b");
        assert_eq!(show("a\u{a0}b".as_bytes()), r"a\u00a0b");
        assert_eq!(show("日本 e\u{301} 😀".as_bytes()), "日本 e\u{301} 😀");
    }

    #[test]
    fn text_for_a_terminal_keeps_its_lines() {
        let mut out = b"\x1b[H".to_vec();
        out.extend_from_slice("é日\ta\n\x1b[2J\x7f\u{9b}\u{202e}\u{e0001}".as_bytes());
        out.extend_from_slice(b"\x9b\r");
        escape_in_text(&mut out, 3);
        let shown = String::from_utf8(out.split_off(3)).unwrap();
        assert_eq!(shown, "é日\ta\n\\x1b[2J\\x7f\\x9b\\u202e\\U000e0001\\x9b\\x0d");
        assert_eq!(out, b"\x1b[H");
    }

    #[test]
    fn json_for_a_terminal_is_the_same_value() {
        let value = "a\u{7f}\u{80}\u{9b}é日\u{200b}\u{202e}\u{2066}\u{feff}\u{ad}\u{e0001}😀\n";
        let mut plain = b"{".to_vec();
        crate::render::json::string(value.as_bytes(), &mut plain);
        escape_in_json(&mut plain, 1);
        let shown = String::from_utf8(plain.split_off(1)).unwrap();
        assert_eq!(
            shown,
            r#""a\u007f\u0080\u009bé日\u200b\u202e\u2066\ufeff\u00ad\udb40\udc01😀\n""#
        );
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), value);
    }

    #[test]
    fn nothing_invisible_or_reordering_passes() {
        for c in "\u{200b}\u{200d}\u{202e}\u{2066}\u{feff}\u{ad}\u{3164}\u{fe0f}\u{e0001}\u{2028}\u{e000}".chars() {
            let shown = show(c.to_string().as_bytes());
            assert!(shown.starts_with('\\') && shown.is_ascii(), "{c:?} → {shown}");
        }
    }
}
