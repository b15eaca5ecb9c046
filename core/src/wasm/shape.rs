//! What a module declares, counted before it is validated: the engine's memory grows with it.

use super::limits;

const TYPE: u8 = 1;
const IMPORT: u8 = 2;
const FUNCTION: u8 = 3;
const CODE: u8 = 10;
/// Its content is one index, not a count of entries.
const START: u8 = 8;
const CUSTOM: u8 = 0;

/// An error names the limit that is exceeded. What is malformed is left to validation, which reads
/// no further than this.
pub fn check(module: &[u8]) -> Result<(), String> {
    let mut rest = module.get(8..).unwrap_or_default();
    while let Some((&kind, after)) = rest.split_first() {
        let Some((length, after)) = number(after) else { return Ok(()) };
        let Some((content, next)) = after.split_at_checked(length) else { return Ok(()) };
        rest = next;
        if matches!(kind, CUSTOM | START) {
            continue;
        }
        let Some((count, entries)) = number(content) else { return Ok(()) };
        let (most, what) = match kind {
            IMPORT => (limits::IMPORTS, "imports"),
            FUNCTION | CODE => (limits::FUNCTIONS, "functions"),
            TYPE => (limits::ITEMS, "types"),
            _ => (limits::ITEMS, "entries of a section"),
        };
        if count > most {
            return Err(format!("{count} {what}, at most {most}"));
        }
        if kind == CODE {
            check_bodies(entries)?;
        }
    }
    Ok(())
}

fn check_bodies(mut rest: &[u8]) -> Result<(), String> {
    while let Some((length, after)) = number(rest) {
        if length > limits::BODY {
            return Err(format!("a function of {length} bytes, at most {}", limits::BODY));
        }
        let Some(next) = after.get(length..) else { break };
        rest = next;
    }
    Ok(())
}

/// An unsigned LEB128 number of 32 bits, and what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.push(kind);
        module.extend(leb(content.len()));
        module.extend(content);
        module
    }

    fn leb(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    #[test]
    fn counts_are_limited_before_anything_is_made_of_them() {
        let limited = |kind, most| {
            assert_eq!(check(&section(kind, &leb(most))), Ok(()));
            let error = check(&section(kind, &leb(most + 1))).unwrap_err();
            assert!(error.contains(&format!("{} ", most + 1)), "{error}");
        };
        limited(IMPORT, limits::IMPORTS);
        limited(FUNCTION, limits::FUNCTIONS);
        limited(CODE, limits::FUNCTIONS);
        limited(TYPE, limits::ITEMS);
        limited(11, limits::ITEMS);
        assert_eq!(check(&section(START, &leb(1 << 30))), Ok(()));
    }

    #[test]
    fn a_function_is_limited() {
        let of = |length: usize| {
            let body = [leb(1), leb(length), vec![0; length]].concat();
            check(&section(CODE, &body))
        };
        assert_eq!(of(limits::BODY), Ok(()));
        assert!(of(limits::BODY + 1).unwrap_err().contains("a function of 1048577 bytes"));
    }

    #[test]
    fn what_is_malformed_is_left_to_validation() {
        for module in
            [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\x0a", b"\0asm\x01\0\0\0\x0a\xff\xff\xff\xff\xff"]
        {
            assert_eq!(check(module), Ok(()));
        }
    }
}
