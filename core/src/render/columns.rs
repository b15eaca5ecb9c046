//! Rows of a table: cells of fixed width with one space between them.

use super::ordinary::is_ordinary;
use super::unicode;
use crate::errors::{Error, Result};
use crate::schema::event::{Event, Value};
use crate::schema::field::Fields;
use crate::schema::plan::{self, Align, Ellipsis};

const MAX_COLUMNS: usize = 4096;
const MAX_WIDTH: i64 = 1 << 16;
const MAX_PRECISION: usize = 64;

struct Column {
    field: usize,
    width: usize,
    align: Align,
    ellipsis: Ellipsis,
    hex: bool,
    precision: usize,
}

pub struct Columns {
    columns: Vec<Column>,
}

impl Columns {
    /// The fields that are shown.
    pub fn reads(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.iter().map(|column| column.field)
    }

    pub fn compile(plans: &[plan::Column], fields: &Fields) -> Result<Columns> {
        if plans.len() > MAX_COLUMNS {
            return Err(Error::plan(format!("{} columns, at most {MAX_COLUMNS}", plans.len())));
        }
        let columns = plans
            .iter()
            .map(|p| {
                let field = fields.index(p.field, "column")?;
                if p.width > MAX_WIDTH || p.precision > MAX_PRECISION {
                    return Err(Error::plan(format!(
                        "column of {}: width {} (at most {MAX_WIDTH}), precision {} (at most \
                         {MAX_PRECISION})",
                        fields.list[field].full_name, p.width, p.precision
                    )));
                }
                Ok(Column {
                    field,
                    width: p.width.max(0) as usize,
                    align: p.align,
                    ellipsis: p.ellipsis,
                    hex: p.hex,
                    precision: p.precision,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Columns { columns })
    }

    /// One row and its newline; `scratch` is reused between rows.
    pub fn write(
        &self,
        event: &Event<'_>,
        fields: &Fields,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        for (i, column) in self.columns.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            if column.width == 0 {
                continue;
            }
            let field = &fields.list[column.field];
            match event.value(column.field, field) {
                Value::Text(text) if is_ordinary(text) => place(text, column, out),
                value => {
                    scratch.clear();
                    cell(value, field.size, column, scratch);
                    place(scratch, column, out);
                }
            }
        }
        out.push(b'\n');
    }
}

fn cell(value: Value<'_>, size: usize, column: &Column, out: &mut Vec<u8>) {
    use std::io::Write;
    let _ = match value {
        Value::Bool(b) => write!(out, "{b}"),
        Value::Uint(u) if column.hex => write!(out, "0x{u:X}"),
        Value::Int(i) if column.hex && i < 0 => write!(out, "0x-{:X}", i.unsigned_abs()),
        Value::Int(i) if column.hex => write!(out, "0x{i:X}"),
        Value::Uint(u) => out.write_all(itoa::Buffer::new().format(u).as_bytes()),
        Value::Int(i) => out.write_all(itoa::Buffer::new().format(i).as_bytes()),
        Value::F32(f) => float(f64::from(f), column.precision, out),
        Value::F64(f) => float(f, column.precision, out),
        Value::Text(text) => {
            if is_ordinary(text) {
                out.extend_from_slice(text);
            } else {
                unicode::quote(text, out);
            }
            Ok(())
        }
        Value::Bytes(raw) => write!(out, "<{} bytes>", raw.len()),
        Value::Array(_) | Value::Container(_) => write!(out, "<{size} bytes>"),
    };
}

fn float(f: f64, precision: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Write;
    if f.is_infinite() {
        return out.write_all(if f > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    write!(out, "{f:.precision$}")
}

/// Writes a text and `spaces` on its other side.
fn pad(text: &[u8], spaces: usize, align: Align, out: &mut Vec<u8>) {
    out.reserve(text.len() + spaces);
    if align == Align::Right {
        out.resize(out.len() + spaces, b' ');
    }
    out.extend_from_slice(text);
    if align == Align::Left {
        out.resize(out.len() + spaces, b' ');
    }
}

/// Cuts or pads to the column's width, counted in characters.
fn place(raw: &[u8], column: &Column, out: &mut Vec<u8>) {
    let width = column.width;
    let ascii = raw.is_ascii();
    // Cells are ASCII or came through `quote`, so always UTF-8.
    let text = if ascii { "" } else { std::str::from_utf8(raw).unwrap_or_default() };
    let length = if ascii { raw.len() } else { text.chars().count() };
    if length <= width {
        return pad(raw, width - length, column.align, out);
    }
    // Byte offset of the character number `n`, or the end.
    let at = |n: usize| match ascii {
        true => n,
        false => text.char_indices().nth(n).map_or(text.len(), |(i, _)| i),
    };
    const DOTS: &[u8] = "…".as_bytes();
    match column.ellipsis {
        Ellipsis::None => out.extend_from_slice(&raw[..at(width)]),
        _ if width == 1 => out.extend_from_slice(DOTS),
        Ellipsis::End => {
            out.extend_from_slice(&raw[..at(width - 1)]);
            out.extend_from_slice(DOTS);
        }
        Ellipsis::Start => {
            out.extend_from_slice(DOTS);
            out.extend_from_slice(&raw[at(length - (width - 1))..]);
        }
        Ellipsis::Middle => {
            // One character more on the left when the width is even.
            let left = width / 2;
            let right = width - left - 1;
            out.extend_from_slice(&raw[..at(left)]);
            out.extend_from_slice(DOTS);
            out.extend_from_slice(&raw[at(length - right)..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, width: usize, align: Align, ellipsis: Ellipsis) -> String {
        let column = Column { field: 0, width, align, ellipsis, hex: false, precision: 0 };
        let (mut scratch, mut out) = (Vec::new(), Vec::new());
        cell(Value::Text(text.as_bytes()), 0, &column, &mut scratch);
        place(&scratch, &column, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn pads_and_cuts() {
        use {Align::*, Ellipsis::*};
        assert_eq!(show("ab", 4, Left, End), "ab  ");
        assert_eq!(show("ab", 4, Right, End), "  ab");
        assert_eq!(show("abcdef", 4, Left, End), "abc…");
        assert_eq!(show("abcdef", 4, Left, Start), "…def");
        assert_eq!(show("abcdef", 4, Left, Middle), "ab…f");
        assert_eq!(show("abcdef", 5, Left, Middle), "ab…ef");
        assert_eq!(show("abcdef", 4, Left, None), "abcd");
        assert_eq!(show("abcdef", 1, Left, End), "…");
        assert_eq!(show("äöüßé", 4, Left, End), "äöü…");
    }
}
