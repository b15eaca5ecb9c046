//! Functions that a condition may call.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::value::{number, order, text, whole, V};

#[derive(Clone, Copy, Debug)]
pub enum Function {
    Len,
    Abs,
    Ceil,
    Floor,
    Round,
    Int,
    Float,
    String,
    Upper,
    Lower,
    Trim,
    TrimPrefix,
    TrimSuffix,
    IndexOf,
    LastIndexOf,
    Max,
    Min,
    BitAnd,
    BitOr,
    BitXor,
    BitNand,
    BitNot,
    BitShl,
    BitShr,
    BitUshr,
}

/// A function by its name, and the least and the greatest number of its arguments.
pub fn function(name: &str) -> Option<(Function, usize, usize)> {
    Some(match name {
        "len" => (Function::Len, 1, 1),
        "abs" => (Function::Abs, 1, 1),
        "ceil" => (Function::Ceil, 1, 1),
        "floor" => (Function::Floor, 1, 1),
        "round" => (Function::Round, 1, 1),
        "int" => (Function::Int, 1, 1),
        "float" => (Function::Float, 1, 1),
        "string" => (Function::String, 1, 1),
        "upper" => (Function::Upper, 1, 1),
        "lower" => (Function::Lower, 1, 1),
        "trim" => (Function::Trim, 1, 2),
        "trimPrefix" => (Function::TrimPrefix, 2, 2),
        "trimSuffix" => (Function::TrimSuffix, 2, 2),
        "indexOf" => (Function::IndexOf, 2, 2),
        "lastIndexOf" => (Function::LastIndexOf, 2, 2),
        "max" => (Function::Max, 1, usize::MAX),
        "min" => (Function::Min, 1, usize::MAX),
        "bitand" => (Function::BitAnd, 2, 2),
        "bitor" => (Function::BitOr, 2, 2),
        "bitxor" => (Function::BitXor, 2, 2),
        "bitnand" => (Function::BitNand, 2, 2),
        "bitnot" => (Function::BitNot, 1, 1),
        "bitshl" => (Function::BitShl, 2, 2),
        "bitshr" => (Function::BitShr, 2, 2),
        "bitushr" => (Function::BitUshr, 2, 2),
        _ => return None,
    })
}

pub fn call<'a>(function: Function, args: Vec<V<'a>>) -> Option<V<'a>> {
    let first = args.first()?;
    // As 64 bits, the most that a field has.
    let bits = |index: usize| Some(whole(args.get(index)?)? as i64);
    let shift = || u32::try_from(whole(args.get(1)?)?).ok();
    let exact = |i: i64| V::Int(i.into());
    Some(match function {
        Function::Len => V::Int(match first {
            V::Text(t) => runes(t) as i128,
            V::List(items) => items.len() as i128,
            _ => return None,
        }),
        Function::Abs => match first {
            V::Int(i) => V::Int(i.abs()),
            _ => V::Float(number(first)?.abs()),
        },
        Function::Ceil => V::Float(number(first)?.ceil()),
        Function::Floor => V::Float(number(first)?.floor()),
        Function::Round => V::Float(number(first)?.round()),
        Function::Int => match first {
            V::Int(i) => V::Int(*i),
            V::Float(f) if f.is_finite() => V::Int(*f as i128),
            V::Text(t) => V::Int(std::str::from_utf8(t).ok()?.parse::<i64>().ok()?.into()),
            _ => return None,
        },
        Function::Float => match first {
            V::Text(t) => V::Float(std::str::from_utf8(t).ok()?.parse().ok()?),
            _ => V::Float(number(first)?),
        },
        Function::String => V::Text(match first {
            V::Text(t) => t.clone(),
            V::Int(i) => Cow::Owned(i.to_string().into_bytes()),
            V::Bool(b) => Cow::Borrowed(if *b { b"true" } else { b"false" }),
            _ => return None,
        }),
        Function::Upper => changed(text(first)?, |c| single(c, c.to_uppercase())),
        Function::Lower => changed(text(first)?, |c| single(c, c.to_lowercase())),
        Function::Trim => {
            let given = String::from_utf8_lossy(text(first)?).into_owned();
            let kept = match args.get(1) {
                Some(set) => {
                    let set = String::from_utf8_lossy(text(set)?).into_owned();
                    given.trim_matches(|c| set.contains(c))
                }
                None => given.trim(),
            };
            V::Text(Cow::Owned(kept.as_bytes().to_vec()))
        }
        Function::TrimPrefix => {
            let (whole, part) = (text(first)?, text(args.get(1)?)?);
            V::Text(Cow::Owned(whole.strip_prefix(part).unwrap_or(whole).to_vec()))
        }
        Function::TrimSuffix => {
            let (whole, part) = (text(first)?, text(args.get(1)?)?);
            V::Text(Cow::Owned(whole.strip_suffix(part).unwrap_or(whole).to_vec()))
        }
        Function::IndexOf => {
            let at = memchr::memmem::find(text(first)?, text(args.get(1)?)?);
            V::Int(at.map_or(-1, |n| n as i128))
        }
        Function::LastIndexOf => {
            let at = memchr::memmem::rfind(text(first)?, text(args.get(1)?)?);
            V::Int(at.map_or(-1, |n| n as i128))
        }
        Function::Max => extreme(args, Ordering::is_gt)?,
        Function::Min => extreme(args, Ordering::is_lt)?,
        Function::BitAnd => exact(bits(0)? & bits(1)?),
        Function::BitOr => exact(bits(0)? | bits(1)?),
        Function::BitXor => exact(bits(0)? ^ bits(1)?),
        Function::BitNand => exact(bits(0)? & !bits(1)?),
        Function::BitNot => exact(!bits(0)?),
        Function::BitShl => exact(bits(0)?.checked_shl(shift()?).unwrap_or(0)),
        Function::BitShr => exact(bits(0)? >> shift()?.min(63)),
        Function::BitUshr => exact((bits(0)? as u64).checked_shr(shift()?).unwrap_or(0) as i64),
    })
}

fn extreme<'a>(mut args: Vec<V<'a>>, better: fn(Ordering) -> bool) -> Option<V<'a>> {
    if let [V::List(items)] = args.as_mut_slice() {
        args = std::mem::take(items);
    }
    let mut rest = args.into_iter();
    let mut best = rest.next()?;
    for value in rest {
        if better(order(&value, &best)??) {
            best = value;
        }
    }
    number(&best)?;
    Some(best)
}

/// The number of characters; each byte that is not UTF-8 counts as one.
fn runes(text: &[u8]) -> usize {
    text.utf8_chunks().map(|c| c.valid().chars().count() + c.invalid().len()).sum()
}

fn changed<'a>(text: &[u8], change: fn(char) -> char) -> V<'a> {
    let text = String::from_utf8_lossy(text);
    V::Text(Cow::Owned(text.chars().map(change).collect::<String>().into_bytes()))
}

/// Replaces one character by one; a character that would become several stays.
fn single(before: char, mut after: impl Iterator<Item = char>) -> char {
    match (after.next(), after.next()) {
        (Some(one), None) => one,
        _ => before,
    }
}
