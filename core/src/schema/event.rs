//! One event: the sample where it is in memory, and what steps added.

use super::field::{is_signed, Bits, Field};
use super::lookups::{ContainerValue, Lookups};
use super::plan::Kind;

/// What a step put into a field.
#[derive(Clone, Copy, Debug, Default)]
pub enum Slot {
    #[default]
    Empty,
    Bool(bool),
    Int(i64),
    Uint(u64),
    F32(f32),
    F64(f64),
    Static(&'static str),
    /// A range of [`Slots::text`].
    Text(u32, u32),
    /// A range of [`Slots::text`], of bytes that are no text.
    Bytes(u32, u32),
    /// A container's value: row and column in [`Containers`](super::lookups::Containers).
    Container(u32, u32),
    /// A text of the pipeline's own table (enum names).
    Named(u32),
    /// The bytes behind the sample, as bytes or as text.
    Rest,
    RestText,
}

/// Per-event values by field index; reused from event to event.
#[derive(Debug, Default)]
pub struct Slots {
    pub values: Vec<Slot>,
    pub text: Vec<u8>,
    /// Identifies the container's values that were filled in; 0 when there are none.
    pub container: u64,
}

impl Slots {
    /// For a new event of so many fields; `filled` are those that steps may have filled before.
    pub fn reset(&mut self, fields: usize, filled: &[usize]) {
        self.text.clear();
        self.container = 0;
        self.values.resize(fields, Slot::Empty);
        for index in filled {
            self.values[*index] = Slot::Empty;
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.values.len() * size_of::<Slot>() + self.text.len()
    }

    /// Fills field `index` with what `write` appends.
    pub fn write_text(&mut self, index: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len() as u32;
        write(&mut self.text);
        self.values[index] = Slot::Text(start, self.text.len() as u32);
    }
}

/// A field's value, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    F32(f32),
    F64(f64),
    /// Bytes that should be UTF-8 but may be anything.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Array(Array<'a>),
    /// A struct, whose children have the values; its size in bytes.
    Container(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    raw: &'a [u8],
    kind: Kind,
    element: usize,
    count: usize,
}

impl<'a> Array<'a> {
    pub fn bytes(&self) -> usize {
        self.raw.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        let Array { raw, kind, element, count } = *self;
        (0..count).map(move |i| {
            let start = i * element;
            scalar(kind, raw.get(start..start + element).unwrap_or_default())
        })
    }
}

/// Up to eight bytes as a number, in the byte order of this machine, on which they were written.
#[inline]
fn number(raw: &[u8]) -> u64 {
    match *raw {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => odd_number(raw),
    }
}

/// Sizes that no C integer has: bit-fields over several units.
#[cold]
fn odd_number(raw: &[u8]) -> u64 {
    let mut word = [0; 8];
    let n = raw.len().min(8);
    let at = if cfg!(target_endian = "little") { 0 } else { 8 - n };
    word[at..at + n].copy_from_slice(&raw[..n]);
    u64::from_ne_bytes(word)
}

fn sign_extend(value: u64, bits: u32) -> i64 {
    match bits {
        0 => 0,
        1..=63 => ((value << (64 - bits)) as i64) >> (64 - bits),
        _ => value as i64,
    }
}

pub fn until_nul(raw: &[u8]) -> &[u8] {
    &raw[..memchr::memchr(0, raw).unwrap_or(raw.len())]
}

#[inline(always)]
fn scalar(kind: Kind, raw: &[u8]) -> Value<'_> {
    match kind {
        Kind::Bool => Value::Bool(number(raw) != 0),
        Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => Value::Uint(number(raw)),
        Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 => {
            Value::Int(sign_extend(number(raw), raw.len() as u32 * 8))
        }
        Kind::F32 => Value::F32(f32::from_bits(number(raw) as u32)),
        Kind::F64 => Value::F64(f64::from_bits(number(raw))),
        Kind::Char | Kind::Str => Value::Text(until_nul(raw)),
        Kind::Bytes => Value::Bytes(raw),
        Kind::Container => Value::Container(raw.len()),
    }
}

fn bit_field(kind: Kind, bits: Bits, raw: &[u8]) -> Value<'_> {
    let value = number(raw) >> bits.shift;
    let mask = if bits.width >= 64 { u64::MAX } else { (1 << bits.width) - 1 };
    match kind {
        Kind::Bool => Value::Bool(value & mask != 0),
        _ if is_signed(kind) => Value::Int(sign_extend(value & mask, bits.width)),
        _ => Value::Uint(value & mask),
    }
}

fn empty(kind: Kind) -> Value<'static> {
    match kind {
        Kind::Bool => Value::Bool(false),
        Kind::F32 | Kind::F64 => Value::F64(0.0),
        Kind::Char | Kind::Str => Value::Text(b""),
        Kind::Bytes => Value::Bytes(b""),
        Kind::Container => Value::Container(0),
        _ if is_signed(kind) => Value::Int(0),
        _ => Value::Uint(0),
    }
}

/// What values are read from. `sample` has exactly the plan's size.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    pub sample: &'a [u8],
    /// The bytes behind the sample, if the plan has a field for them.
    pub rest: &'a [u8],
    pub slots: &'a Slots,
    pub lookups: &'a Lookups,
    pub names: &'a [Box<str>],
}

impl<'a> Event<'a> {
    #[inline(always)]
    pub fn value(&self, index: usize, field: &Field) -> Value<'a> {
        if field.slot || field.patched {
            match self.slot(index) {
                Some(value) => return value,
                None if field.slot => return empty(field.kind),
                None => {}
            }
        }
        from_sample(field, self.sample)
    }

    #[inline(always)]
    fn slot(&self, index: usize) -> Option<Value<'a>> {
        Some(match *self.slots.values.get(index)? {
            Slot::Empty => return None,
            Slot::Bool(b) => Value::Bool(b),
            Slot::Int(i) => Value::Int(i),
            Slot::Uint(u) => Value::Uint(u),
            Slot::F32(f) => Value::F32(f),
            Slot::F64(f) => Value::F64(f),
            Slot::Static(s) => Value::Text(s.as_bytes()),
            Slot::Text(start, end) => {
                Value::Text(self.slots.text.get(start as usize..end as usize)?)
            }
            Slot::Bytes(start, end) => {
                Value::Bytes(self.slots.text.get(start as usize..end as usize)?)
            }
            Slot::Rest => Value::Bytes(self.rest),
            Slot::RestText => Value::Text(until_nul(self.rest)),
            Slot::Named(n) => Value::Text(self.names.get(n as usize)?.as_bytes()),
            Slot::Container(row, column) => match self.lookups.containers.value(row, column)? {
                ContainerValue::Text(s) => Value::Text(s.as_bytes()),
                ContainerValue::Bool(b) => Value::Bool(*b),
                ContainerValue::Int(i) => Value::Int(*i),
                ContainerValue::Uint(u) => Value::Uint(*u),
            },
        })
    }
}

#[inline(always)]
pub fn from_sample<'a>(field: &Field, sample: &'a [u8]) -> Value<'a> {
    let raw = sample.get(field.offset..field.offset + field.size).unwrap_or_default();
    if field.array {
        let Field { kind, element, count, .. } = *field;
        return Value::Array(Array { raw, kind, element, count });
    }
    match field.bits {
        Some(bits) => bit_field(field.kind, bits, raw),
        None => scalar(field.kind, raw),
    }
}

impl Value<'_> {
    /// The value as a 64-bit pattern; negative numbers sign-extended.
    pub fn word(&self) -> u64 {
        match *self {
            Value::Bool(b) => u64::from(b),
            Value::Int(i) => i as u64,
            Value::Uint(u) => u,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_extend_their_sign() {
        assert_eq!(scalar(Kind::I8, &[0xff]), Value::Int(-1));
        assert_eq!(scalar(Kind::I16, &[0, 0x80]), Value::Int(-32768));
        assert_eq!(scalar(Kind::U64, &[0xff; 8]), Value::Uint(u64::MAX));
        assert_eq!(scalar(Kind::I64, &[0xff; 8]), Value::Int(-1));
    }

    #[test]
    fn bit_fields_are_cut_out() {
        let bits = |shift, width| Bits { shift, width };
        assert_eq!(bit_field(Kind::U8, bits(0, 4), &[0x23]), Value::Uint(3));
        assert_eq!(bit_field(Kind::U8, bits(4, 4), &[0x23]), Value::Uint(2));
        assert_eq!(bit_field(Kind::I32, bits(4, 2), &[0x30, 0, 0, 0]), Value::Int(-1));
        assert_eq!(bit_field(Kind::U64, bits(0, 64), &[0xff; 8]), Value::Uint(u64::MAX));
    }

    #[test]
    fn text_ends_at_nul_or_at_the_end() {
        assert_eq!(scalar(Kind::Char, b"ab\0cd"), Value::Text(b"ab"));
        assert_eq!(scalar(Kind::Char, b"abcd"), Value::Text(b"abcd"));
    }
}
