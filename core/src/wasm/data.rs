//! Values of fields as the module reads and sets them: the bytes of the value, as `ig` has them.

use super::kinds::Kind;
use super::limits;
use super::live::LiveElement;
use crate::schema::event::{until_nul, Event, Slot, Slots, Value};
use crate::schema::field::{is_integer, is_signed, width, Field};
use crate::schema::plan;

type Said<T> = Result<T, &'static str>;

/// Calls `with` with the bytes of a field's value. Of a char array these are all bytes; `texts`: only
/// those of its text, as this process made the sample.
pub fn read<T>(
    of: &LiveElement<'_>,
    index: usize,
    field: &Field,
    texts: bool,
    with: impl FnOnce(&[u8]) -> T,
) -> T {
    let LiveElement { sample, rest, slots, lookups, names } = *of;
    let unset = matches!(slots.values.get(index), None | Some(Slot::Empty));
    if unset && !field.slot && field.bits.is_none() {
        let bytes = sample.get(field.offset..field.offset + field.size).unwrap_or_default();
        let cut = texts && field.kind == plan::Kind::Char && !field.array;
        return with(if cut { until_nul(bytes) } else { bytes });
    }
    let event = Event { sample, rest, slots, lookups, names };
    let size = width(field.kind).unwrap_or(field.size).min(8);
    match event.value(index, field) {
        Value::Bool(b) => with(&[u8::from(b)]),
        Value::Int(n) => with(&n.to_le_bytes()[..size]),
        Value::Uint(n) => with(&n.to_le_bytes()[..size]),
        Value::F32(f) => with(&f.to_le_bytes()),
        Value::F64(f) if size == 4 => with(&(f as f32).to_le_bytes()),
        Value::F64(f) => with(&f.to_le_bytes()),
        Value::Text(bytes) | Value::Bytes(bytes) => with(bytes),
        Value::Array(_) | Value::Container(_) => with(&[]),
    }
}

/// The bits of a scalar of `kind`: of signed kinds, extended by the sign to 64 bits.
pub fn scalar(kind: plan::Kind, bytes: &[u8]) -> Said<u64> {
    let wanted = width(kind).ok_or("a kind that is no scalar")?;
    if bytes.len() != wanted {
        return Err("the field's value has another size");
    }
    let mut word = [0; 8];
    word[..wanted].copy_from_slice(bytes);
    let number = u64::from_le_bytes(word);
    let shift = 64 - wanted as u32 * 8;
    Ok(match kind {
        plan::Kind::Bool => u64::from(number != 0),
        kind if is_signed(kind) => ((number << shift) as i64 >> shift) as u64,
        _ => number,
    })
}

/// A value that the module gives a field.
pub enum Given<'a> {
    Scalar(plan::Kind, u64),
    Bytes(&'a [u8]),
}

impl<'a> Given<'a> {
    pub fn of(kind: u32, value: u64, memory: &'a [u8]) -> Said<Given<'a>> {
        match Kind::of(kind) {
            Some(Kind::Scalar(kind)) => Ok(Given::Scalar(kind, value)),
            Some(Kind::String | Kind::Bytes) => {
                super::memory::bytes(memory, value).map(Given::Bytes)
            }
            Some(Kind::CString) => Err("values of kind CString cannot be set"),
            None => Err("an unknown kind"),
        }
    }
}

/// Sets field `index` of an event.
pub fn set(slots: &mut Slots, index: usize, field: &Field, given: &Given<'_>) -> Said<()> {
    if field.array || field.kind == plan::Kind::Container {
        return Err("the field has no single value");
    }
    if slots.values.len() <= index {
        return Err("the data has no such field");
    }
    match given {
        Given::Scalar(kind, value) => {
            let size = width(*kind).ok_or("a kind that is no scalar")?;
            let own = width(field.kind).ok_or("the field's value is no scalar")?;
            if size != own {
                return Err("the field's value has another size");
            }
            slots.values[index] = slot_of(field, &value.to_le_bytes()[..size])?;
        }
        Given::Bytes(bytes) => match field.kind {
            plan::Kind::Str | plan::Kind::Char | plan::Kind::Bytes => {
                if slots.text.len() + bytes.len() > limits::EVENT_TEXT {
                    return Err("more text than one event may have");
                }
                let start = slots.text.len() as u32;
                // Of a char array, what is behind the NUL is not shown.
                let shown = match field.kind {
                    plan::Kind::Char => until_nul(bytes),
                    _ => bytes,
                };
                slots.text.extend_from_slice(shown);
                let end = slots.text.len() as u32;
                slots.values[index] = match field.kind {
                    plan::Kind::Bytes => Slot::Bytes(start, end),
                    _ => Slot::Text(start, end),
                };
            }
            _ => slots.values[index] = slot_of(field, bytes)?,
        },
    }
    Ok(())
}

fn slot_of(field: &Field, bytes: &[u8]) -> Said<Slot> {
    let mut number = scalar(field.kind, bytes)?;
    if let Some(bits) = field.bits.filter(|b| b.width < 64) {
        number &= (1 << bits.width) - 1;
        if is_signed(field.kind) {
            let shift = 64 - bits.width;
            number = ((number << shift) as i64 >> shift) as u64;
        }
    }
    Ok(match field.kind {
        plan::Kind::Bool => Slot::Bool(number != 0),
        plan::Kind::F32 => Slot::F32(f32::from_bits(number as u32)),
        plan::Kind::F64 => Slot::F64(f64::from_bits(number)),
        kind if is_signed(kind) => Slot::Int(number as i64),
        kind if is_integer(kind) => Slot::Uint(number),
        _ => return Err("the field's value is no scalar"),
    })
}
